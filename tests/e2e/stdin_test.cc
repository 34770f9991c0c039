// `longhaul run --stdin`: rank 0 reads what the command line does, every byte once, whoever dies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "control/client/job_client.h"
#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Starts `longhaul run --stdin OPTIONS` with the output of a shell command as its stdin.
ChildProcess& run_with(Cluster& cluster, const std::string& input, const std::string& options) {
  return cluster.start_in_folder(
      {"sh", "-c", str_cat(input, " | ", program("longhaul"), " run --stdin ", options)});
}

std::string random_bytes(size_t count) {
  std::string bytes(count, '\0');
  std::mt19937 random(7);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

TEST(Stdin, RankZeroReadsAllOfItAndNobodyElseAnything) {
  Cluster cluster;
  ChildProcess& run = run_with(cluster, "seq 200000",
                               "--ranks 3 -- sh -c 'echo $RANK $(cksum) $(wc -c </dev/null)'");
  EXPECT_EQ(run.wait(), 0) << run.err();
  ChildProcess& expected = cluster.start_in_folder({"sh", "-c", "seq 200000 | cksum"});
  ASSERT_EQ(expected.wait(), 0);
  const std::string sum = expected.out().substr(0, expected.out().size() - 1);
  EXPECT_THAT(run.out(),
              AllOf(HasSubstr(str_cat("[0] 0 ", sum, " 0\n")), HasSubstr("[1] 1 4294967295 0 0\n"),
                    HasSubstr("[2] 2 4294967295 0 0\n")));
}

TEST(Stdin, WithoutItNoRankHasAny) {
  Cluster cluster({.workers = 1, .slots = 1});
  ChildProcess& run = cluster.start_in_folder(
      {"sh", "-c", str_cat("echo typed | ", program("longhaul"), " run -- wc -c")});
  EXPECT_EQ(run.wait(), 0) << run.err();
  EXPECT_EQ(run.out(), "[0] 0\n");
}

TEST(Stdin, ARankThatReadsNoMoreEndsTheJobAsItWill) {
  Cluster cluster({.workers = 1, .slots = 1});
  ChildProcess& some = run_with(cluster, "yes", "-- head -c 4");
  EXPECT_EQ(some.wait(), 0) << some.err();
  EXPECT_EQ(some.out(), "[0] y\n[0] y\n");
  ChildProcess& nothing = run_with(cluster, "yes", "-- sh -c 'exec <&-; sleep 0.3; exit 5'");
  EXPECT_EQ(nothing.wait(), 5) << nothing.err();
}

// A line at a time, as a person types: what is there is not held back.
TEST(Stdin, IsLive) {
  Cluster cluster({.workers = 1, .slots = 1});
  ChildProcess& run =
      run_with(cluster, "(echo one; while [ ! -e go ]; do sleep 0.02; done; echo two)",
               "-- sh -c 'while read -r line; do echo got $line; done; echo over'");
  EXPECT_TRUE(eventually([&] { return run.out() == "[0] got one\n"; })) << run.out() << run.err();
  std::ofstream(cluster.file("go")) << "\n";
  EXPECT_EQ(run.wait(), 0) << run.err();
  EXPECT_EQ(run.out(), "[0] got one\n[0] got two\n[0] over\n");
}

TEST(Stdin, EveryByteOnceWhileMasterAndWorkerAreKilled) {
  Cluster cluster({.workers = 1, .slots = 1, .lease = "10", .keep_state = true});
  const std::string bytes = random_bytes(size_t{6} << 20);
  std::ofstream(cluster.file("input"), std::ios::binary) << bytes;
  // Read slowly enough that all of the deaths fall into it.
  ChildProcess& run =
      run_with(cluster, "cat input",
               "-- sh -c 'for i in $(seq 60); do head -c 104858 >>copy; touch read; "
               "sleep 0.05; done; cat >>copy; touch done'");
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(cluster.file("read")); }))
      << run.err();
  cluster.restart_worker(0);
  cluster.restart_master();
  cluster.restart_worker(0);
  EXPECT_EQ(run.wait(), 0) << run.err() << cluster.logs();
  EXPECT_TRUE(read_text(cluster.file("copy")) == bytes) << "what was read is not what was sent";
}

TEST(Stdin, ThatCannotBeReadIsNotTakenForItsEnd) {
  Cluster cluster({.workers = 1, .slots = 1});
  ChildProcess& run = cluster.start_in_folder(
      {"sh", "-c", str_cat(program("longhaul"), " run --stdin -- sh -c 'cat; touch ended' </")});
  EXPECT_NE(run.wait(), 0);
  EXPECT_THAT(run.err(), HasSubstr("standard input cannot be read: Is a directory; the job was "
                                   "stopped"));
  EXPECT_FALSE(std::filesystem::exists(cluster.file("ended")));
}

TEST(Stdin, CannotBeSentTwiceOrToNobody) {
  Cluster cluster({.workers = 1, .slots = 1});
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--stdin", "--max-restarts", "2", "--", "cat"}), 64);
  EXPECT_THAT(cluster.last().err(), HasSubstr("--max-restarts"));
  EXPECT_EQ(cluster.longhaul_to_end({"run", "--stdin", "-d", "--", "cat"}), 64);

  ASSERT_EQ(cluster.longhaul_to_end({"run", "-d", "--", "sleep", "1000"}), 0);
  JobClient client(cluster.address());
  const Result<InputTaken> refused = client.write_input("last", 0, "x", false);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.failure().message, HasSubstr("takes no input"));
  JobSpec spec;
  spec.command = {"cat"};
  spec.input = true;
  spec.max_node_restarts = 1;
  EXPECT_THAT(client.submit(spec).failure().message, HasSubstr("no restarts"));
  ASSERT_EQ(cluster.longhaul_to_end({"stop", "last"}), 0);
}

}  // namespace
}  // namespace longhaul::testing
