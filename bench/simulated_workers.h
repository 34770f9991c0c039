// Workers without processes: each is a real link to a real master (one connection, the worker's own
// reconnecting and heartbeats), and ends every task that it is granted by itself, with a small
// result, some time after the grant. Ranks of a gang spawn, join if they are to, and some time
// later leave and exit with 0.
//
// Thread safety: all methods from the thread that made it; the links live on a thread of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "control/worker/host/event_loop.h"
#include "control/worker/session/master_link.h"
#include "longhaul/base/clock.h"

namespace longhaul::bench {

class SimulatedWorkers {
 public:
  struct Options {
    std::string master;
    int count = 1;
    int slots = 1;
    milliseconds task_time{0};  // of a task, or of a rank
    bool ranks_join = true;
  };

  // All of them dial at once.
  explicit SimulatedWorkers(const Options& options);
  // They take leave without a word.
  ~SimulatedWorkers();

  // How many sessions have begun so far, those after a reconnect included.
  int sessions() const { return sessions_; }
  // How many have a session now.
  int connected() const { return connected_; }

 private:
  struct Worker;

  void add(int number);
  void on_message(Worker& worker, const v1::MasterMessage& message);
  void end(Worker& worker, const std::vector<uint64_t>& epochs);
  void launch(Worker& worker, const v1::Launch& launch);

  const Options options_;
  const std::string result_;
  std::atomic<int> sessions_{0};
  std::atomic<int> connected_{0};
  const std::shared_ptr<EventLoop> loop_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::thread thread_;
};

}  // namespace longhaul::bench
