// A real training under the daemons: char_gpt's gradients travel compressed between four processes,
// and what is killed in the middle of it is named, by the master and by nobody's time-out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kForever = "1000000";

class Training : public ::testing::Test {
 protected:
  explicit Training(const Cluster::Options& options = {}) : cluster_(options) {
    std::ofstream text(cluster_.file("text.txt"));
    for (int i = 0; i < 400; ++i) {
      text << i << " green bottles hanging on the wall, " << i * 7 << " more to fall;\n";
    }
  }

  // Four ranks over two workers: 0 and 1 on w0, 2 and 3 on w1.
  ChildProcess& train(const std::string& steps, const std::vector<std::string>& flags = {}) {
    std::vector<std::string> command = {"run", "--ranks", "4", "--grace", "2"};
    command.insert(command.end(), flags.begin(), flags.end());
    for (const std::string& word : {std::string("--"), program("char_gpt"), std::string("--text"),
                                    std::string("text.txt"), std::string("--steps"), steps}) {
      command.push_back(word);
    }
    for (const char* word : {"--batch", "2", "--context", "16", "--width", "16", "--heads", "2",
                             "--layers", "1", "--sample", "20", "--report", "report.json"}) {
      command.emplace_back(word);
    }
    return cluster_.longhaul(command);
  }

  // {} as long as there is no job.
  json status() {
    const bool known = cluster_.longhaul_to_end({"status", "last", "-o", "json"}) == 0;
    return known ? json::parse(cluster_.last().out()) : json::object();
  }

  // Returns when every rank has reported a step, of the attempt after so many restarts; the pids
  // by rank.
  std::vector<pid_t> wait_for_steps(int restarts = 0) {
    std::vector<pid_t> pids;
    const bool all = eventually([&] {
      pids.clear();
      json job = status();
      if (job.value("restarts", 0) != restarts) return false;
      for (const json& rank : job["ranks"]) {
        if (rank["progress"].is_null() || rank["progress"]["step"] < 1) return false;
        pids.push_back(rank["pid"].get<pid_t>());
      }
      return pids.size() == 4;
    });
    if (!all) throw std::runtime_error("the training does not get going");
    return pids;
  }

  Cluster cluster_;
};

TEST_F(Training, FourRanksLearnTheSameAndSayWhatTheySent) {
  EXPECT_EQ(train("30").wait(), 0);
  const json report = json::parse(read_text(cluster_.file("report.json")), nullptr, false);
  EXPECT_EQ(report["world_size"], 4);
  EXPECT_EQ(report["codec"], "zstd");
  const std::set<std::string> hashes(report["parameter_hashes"].begin(),
                                     report["parameter_hashes"].end());
  EXPECT_EQ(report["parameter_hashes"].size(), 4U);
  EXPECT_EQ(hashes.size(), 1U);
  EXPECT_GT(report["bytes_sent"], 0);
  EXPECT_LT(report["bytes_sent"], report["bytes_raw"]);
  const json job = status();
  EXPECT_EQ(job["state"], "succeeded");
  EXPECT_EQ(job["progress"]["step"], 30);
  EXPECT_EQ(job["progress"]["bytes_sent"], report["bytes_sent"]);
}

TEST_F(Training, AKilledRankIsNamedAndItsPeersAreVictims) {
  ChildProcess& run = train(kForever);
  ::kill(wait_for_steps()[2], SIGKILL);
  EXPECT_EQ(run.wait(), 137);
  EXPECT_THAT(run.err(), HasSubstr("culprit     rank 2 "));
  EXPECT_THAT(run.err(), HasSubstr("victims     ranks 0, 1 and 3"));
}

TEST_F(Training, AKilledWorkerIsNamed) {
  ChildProcess& run = train(kForever);
  wait_for_steps();
  cluster_.worker(1).kill(SIGKILL);
  EXPECT_EQ(run.wait(), 1);
  EXPECT_THAT(run.err(), HasSubstr("culprit     worker w1"));
}

TEST_F(Training, WithoutItsMasterItGoesOn) {
  ChildProcess& run = train(kForever, {"--master-timeout", "3"});
  const std::vector<pid_t> ranks = wait_for_steps();
  cluster_.master().kill(SIGKILL);
  EXPECT_EQ(run.wait(), 69);
  for (const pid_t rank : ranks) EXPECT_TRUE(is_running(rank));
}

class TrainingUnderFire : public Training {
 protected:
  TrainingUnderFire() : Training({.lease = "10", .keep_state = true}) {}
};

// Restarted from the first step after a rank was killed, undisturbed by what happens to the
// daemons.
TEST_F(TrainingUnderFire, ItEndsWellAndAllRanksHaveLearntTheSame) {
  ChildProcess& run = train("400", {"--max-restarts", "3"});
  ::kill(wait_for_steps()[2], SIGKILL);
  const std::vector<pid_t> ranks = wait_for_steps(1);
  cluster_.restart_master();
  cluster_.restart_worker(1);
  EXPECT_EQ(wait_for_steps(1), ranks) << "ranks were started again";
  ::kill(ranks[0], SIGKILL);
  EXPECT_EQ(run.wait(), 0) << run.err();
  const json report = json::parse(read_text(cluster_.file("report.json")), nullptr, false);
  const std::set<std::string> hashes(report["parameter_hashes"].begin(),
                                     report["parameter_hashes"].end());
  EXPECT_EQ(report["parameter_hashes"].size(), 4U);
  EXPECT_EQ(hashes.size(), 1U);
  EXPECT_EQ(status()["restarts"], 2);
}

TEST_F(Training, StoppedByItsUserItLeavesNothing) {
  ChildProcess& run = train(kForever);
  wait_for_steps();
  cancel(run);
  EXPECT_EQ(run.wait(), 130);
}

}  // namespace
}  // namespace longhaul::testing
