// Real daemons for a test: a master, workers and command lines as processes, in a folder of their
// own, on free ports of 127.0.0.1. When the cluster goes, so has everything that it started, and
// that is checked.
//
//   Cluster cluster({.workers = 2, .slots = 2});
//   ChildProcess& run = cluster.longhaul({"run", "--ranks", "4", "--", kRank, "join", "exit=3"});
//   EXPECT_EQ(run.wait(), 3);
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {

class Cluster {
 public:
  struct Options {
    bool daemons = true;  // false: command lines only
    int workers = 2;
    int slots = 2;                              // of each worker
    std::string lease = "3";                    // seconds
    std::string master_state = "master-state";  // the master's state folder, in the test's
    std::vector<std::string> master_flags = {};
    std::map<std::string, std::string> env = {};  // of everything that is started
    bool keep_state = false;  // a worker's state folder outlives it, for restart_worker()
  };

  explicit Cluster(const Options& options);
  Cluster() : Cluster(Options()) {}
  // Ends the daemons as an operator would, then fails the test if anything still runs.
  ~Cluster();

  // Starts `longhaul` with these arguments, this cluster's master and its marker in the
  // environment.
  ChildProcess& longhaul(const std::vector<std::string>& arguments);
  // Starts any other command the same way.
  ChildProcess& start_in_folder(const std::vector<std::string>& command);
  // `longhaul` to its end; fails the test after a minute.
  int longhaul_to_end(const std::vector<std::string>& arguments);
  ChildProcess& last() { return *commands_.back(); }

  ChildProcess& master() { return *master_; }
  ChildProcess& worker(size_t index) { return *workers_.at(index); }
  const std::string& address() const { return address_; }

  void add_worker(int slots, const std::vector<std::string>& flags = {});
  // Kills the master and starts another one on the same port, on what the first one had on disk or
  // on nothing.
  enum class Memory { kKept, kForgotten };
  void restart_master(Memory memory = Memory::kKept);
  // Kills a worker without warning; start_worker() starts another one in its place.
  void kill_worker(size_t index);
  void start_worker(size_t index, const std::vector<std::string>& flags = {});
  void restart_worker(size_t index, const std::vector<std::string>& flags = {}) {
    kill_worker(index);
    start_worker(index, flags);
  }
  // Returns when that many workers are known to the master and ready.
  void wait_for_workers(size_t count);
  // A file in the test's folder.
  std::string file(const std::string& name) const { return folder_.file(name); }
  // Waits for FILE.RANK that a rank program's touch=FILE makes; its pid.
  pid_t wait_for_touch(const std::string& name, int rank);

  // Everything that the daemons said, for a test that failed.
  std::string logs() const;

 private:
  std::unique_ptr<ChildProcess> start(const std::vector<std::string>& command,
                                      const std::string& name);
  void start_master(const std::string& listen);
  std::string master_state() const;
  void stop_all();

  TempDir folder_;
  const std::string marker_;
  Options options_;
  std::string address_;
  std::unique_ptr<ChildProcess> master_;
  std::vector<std::unique_ptr<ChildProcess>> workers_;
  std::vector<int> worker_slots_;
  int worker_starts_ = 0;
  std::vector<std::unique_ptr<ChildProcess>> commands_;
};

// Ctrl-C, and once more when it says that the first one leaves the job alone.
void cancel(ChildProcess& run);
// Where the programs lie that the build made.
std::string program(const std::string& name);
// tests/e2e/rank_program.cc
std::string rank_program();

}  // namespace longhaul::testing
