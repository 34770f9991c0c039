// Standard output that cannot be written, or that nobody reads any more, is an error of every
// command that prints something.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "longhaul/base/strings.h"
#include "tests/e2e/cluster.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

class BadOutput : public ::testing::Test {
 protected:
  BadOutput() {
    EXPECT_EQ(cluster_.longhaul_to_end({"run", "--", "echo", "a line"}), 0);
    EXPECT_EQ(cluster_.longhaul_to_end({"map", "--array", "0-2", "--", "echo", "{}"}), 0);
  }

  // The command under a shell that has spoilt its output first.
  std::optional<int> run(const std::string& spoil, const std::string& command) {
    return cluster_
        .start_in_folder({"sh", "-c", str_cat(spoil, "; exec ", program("longhaul"), " ", command)})
        .wait();
  }

  Cluster cluster_;
  const std::vector<std::string> commands_ = {"ps --all",
                                              "ps --all -o json",
                                              "nodes",
                                              "nodes -o json",
                                              "status j1",
                                              "status j1 -o json",
                                              "logs j1",
                                              "logs -f j1",
                                              "results j2",
                                              "results j2 --jsonl",
                                              "results -f j2",
                                              "events",
                                              "events -f j1",
                                              "events -o json",
                                              "explain j1",
                                              "explain j1 -o json",
                                              "stop j1",
                                              "drain w0",
                                              "drain --undo w0",
                                              "run -- echo more",
                                              "run -d -- echo more",
                                              "run -o json -- echo more",
                                              "map --array 0-1 -o json -- echo {}",
                                              "completion bash",
                                              "--help",
                                              "run --help",
                                              "--version"};
};

TEST_F(BadOutput, AFullDiskIsSaid) {
  for (const std::string& command : commands_) {
    EXPECT_EQ(run("exec >/dev/full", command), 73) << command;
    EXPECT_THAT(cluster_.last().err(), HasSubstr("cannot write to standard output")) << command;
  }
}

TEST_F(BadOutput, AClosedOneIsSaid) {
  for (const std::string& command : commands_) {
    EXPECT_EQ(run("exec >&-", command), 73) << command;
    EXPECT_THAT(cluster_.last().err(), HasSubstr("cannot write to standard output")) << command;
  }
}

// As every program of a pipeline, whether the signal ends it or it sees the error.
TEST_F(BadOutput, AReaderThatHasGoneEndsIt) {
  for (const std::string& command : commands_) {
    EXPECT_EQ(run("rm -f p; mkfifo p; exec 4<>p; exec >p; exec 4<&-", command), 141) << command;
  }
}

TEST_F(BadOutput, TheJobGoesOnAndItsOwnCodeCounts) {
  EXPECT_EQ(run("exec >/dev/full", "run --name on -- sh -c 'echo x; echo y; exit 3'"), 3);
  EXPECT_THAT(cluster_.last().err(), HasSubstr("No space left on device; job j3 goes on"));
  EXPECT_EQ(cluster_.longhaul_to_end({"logs", "on"}), 0);
  EXPECT_EQ(cluster_.last().out(), "[0] x\n[0] y\n");
}

TEST_F(BadOutput, DaemonsSayItToo) {
  for (const char* daemon : {"longhaul-master", "longhaul-worker"}) {
    EXPECT_EQ(
        cluster_
            .start_in_folder({"sh", "-c", str_cat("exec ", program(daemon), " --help >/dev/full")})
            .wait(),
        73);
  }
}

}  // namespace
}  // namespace longhaul::testing
