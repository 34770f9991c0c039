// `quickstart.sh --link`: its flag, and what its hosts do, over emulated links and with a training
// small enough for a test. Those that emulate need root and /dev/net/tun, and skip themselves
// elsewhere.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "longhaul/base/strings.h"
#include "tests/support/child_process.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Words = std::vector<std::string>;

constexpr int kMissing = 77;
constexpr int kUsage = 64;
constexpr int kNoInput = 66;

std::string script(const std::string& name) {
  return std::string(LONGHAUL_TEST_SCRIPTS) + "/" + name;
}

class Quickstart : public ::testing::Test {
 protected:
  ChildProcess& start(const Words& words) {
    const ChildProcess::Options options{{{"QUICKSTART_TEST", marker()}}, ""};
    process_ =
        std::make_unique<ChildProcess>(words, folder_.file(str_cat("run", ++runs_)), options);
    return *process_;
  }

  void TearDown() override {
    process_.reset();
    EXPECT_TRUE(eventually([&] { return processes_marked("QUICKSTART_TEST=" + marker()).empty(); }))
        << "something is left running";
  }

  std::string marker() const { return folder_.path().filename(); }

  TempDir folder_;
  std::unique_ptr<ChildProcess> process_;
  int runs_ = 0;
};

TEST_F(Quickstart, ALinkThatIsNoneIsAnsweredAtOnce) {
  for (const char* wrong : {"fast", "25mbit", "25mbit,100ms,1", "25mbit,100ms,1%,x", ",", ""}) {
    EXPECT_EQ(start({script("quickstart.sh"), "--link", wrong}).wait(), kUsage) << wrong;
    EXPECT_THAT(process_->err(), HasSubstr("--link is RATE,RTT[,LOSS%], as in 25mbit,100ms,0.5%"));
  }
}

TEST_F(Quickstart, WithoutRootOneLineSaysWhatIsMissingBeforeAnythingIsBuilt) {
  if (::geteuid() == 0 && ::access("/usr/bin/setpriv", X_OK) != 0) {
    GTEST_SKIP() << "needs setpriv to give root away";
  }
  Words words{script("quickstart.sh"), "--link", "25mbit,100ms"};
  if (::geteuid() == 0) {
    const Words nobody{"/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
    words.insert(words.begin(), nobody.begin(), nobody.end());
  }
  const int code = start(words).wait().value_or(-1);
  if (code == 126 || code == 127) GTEST_SKIP() << "the source folder is closed to others";
  EXPECT_EQ(code, kMissing);
  const std::string said = process_->err();
  EXPECT_THAT(said, HasSubstr("takes root and /dev/net/tun: run it with sudo"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

class QuickstartOverLinks : public Quickstart {
 protected:
  void SetUp() override {
    if (start({program("linkem"), "run", "--hosts", "1", "--", "true"}).wait() == kMissing) {
      GTEST_SKIP() << "needs root and /dev/net/tun: " << process_->err();
    }
    std::ofstream text(folder_.file("text.txt"));
    for (int i = 0; i < 400; ++i) text << i << " green bottles hanging on the wall;\n";
  }

  // As quickstart.sh starts it: three hosts with a rank each.
  ChildProcess& train(const std::string& text, const std::string& steps) {
    std::filesystem::create_directory(folder_.file("state"));
    Words words{program("linkem"), "run", "--hosts", "3", "--rate", "25mbit", "--rtt", "10ms"};
    const Words host{"--no-prefix",
                     "--fail-fast",
                     "-o",
                     "none",
                     "--",
                     script("quickstart_host.sh"),
                     LONGHAUL_TEST_PROGRAMS,
                     folder_.file("state"),
                     "3"};
    const Words training{"--text",    folder_.file(text),
                         "--steps",   steps,
                         "--codec",   "auto",
                         "--batch",   "2",
                         "--context", "16",
                         "--width",   "32",
                         "--heads",   "2",
                         "--layers",  "1",
                         "--sample",  "20",
                         "--report",  folder_.file("report.json")};
    words.insert(words.end(), host.begin(), host.end());
    words.insert(words.end(), training.begin(), training.end());
    return start(words);
  }

  static std::string program(const std::string& name) {
    return std::string(LONGHAUL_TEST_PROGRAMS) + "/" + name;
  }
};

TEST_F(QuickstartOverLinks, EveryHostTrainsARankAndTheReportComesAtTheEnd) {
  ASSERT_EQ(train("text.txt", "8").wait(std::chrono::seconds(120)), 0)
      << process_->out() << process_->err();
  const nlohmann::json report = nlohmann::json::parse(read_text(folder_.file("report.json")));
  EXPECT_EQ(report["world_size"], 3);
  ASSERT_EQ(report["parameter_hashes"].size(), 3U);
  EXPECT_EQ(report["parameter_hashes"][0], report["parameter_hashes"][2]);
  EXPECT_THAT(process_->out(), AllOf(HasSubstr("sent with codec auto"), HasSubstr("auto, now ")));
  for (const char* host : {"host-0", "host-1", "host-2"}) {
    EXPECT_THAT(read_text(folder_.file(str_cat("state/", host, ".log"))),
                HasSubstr("spawning 1 of 3 ranks"))
        << host;
  }
}

TEST_F(QuickstartOverLinks, TheExitCodeIsTheJobs) {
  EXPECT_EQ(train("no_such_text.txt", "8").wait(std::chrono::seconds(120)), kNoInput)
      << process_->out() << process_->err();
}

TEST_F(QuickstartOverLinks, ASignalEndsItAndNothingStays) {
  train("text.txt", "1000000");
  ASSERT_TRUE(eventually([&] {
    return (process_->out() + process_->err()).find("| step ") != std::string::npos;
  })) << process_->out()
      << process_->err();
  process_->kill(SIGTERM);
  EXPECT_EQ(process_->wait(), 143);
}

}  // namespace
}  // namespace longhaul::testing
