// Tells the worker about once a second what this rank does: the training program's own numbers and
// the communicator's counts. Its sign of life, and the way in which the worker asks to stop, or,
// when nothing moves any more, for the stack of the thread that trains. Thread safety: all methods
// from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/thread.h"
#include "base/thread_stack.h"
#include "longhaul/agent/coordinator.h"
#include "longhaul/base/mutex.h"
#include "longhaul/collectives/communicator.h"
#include "longhaul/runtime/world.h"

namespace longhaul {

// Share of the time since the last call with a new step that backward passes waited, 0..1. Measured
// over whole steps, because a step may take longer than the time between two reports.
class WaitShare {
 public:
  double update(int64_t step, double wait_seconds, Instant now);

 private:
  bool started_ = false;
  int64_t step_ = 0;
  double wait_seconds_ = 0;
  Instant since_{};
  double share_ = 0;
};

class ProgressReporter {
 public:
  // `may_speak`: nothing is sent while it says no (another World of this process speaks for it).
  ProgressReporter(std::shared_ptr<Coordinator> coordinator,
                   std::shared_ptr<Communicator> communicator,
                   milliseconds interval = milliseconds(1000),
                   std::function<bool()> may_speak = {});
  // Sends one last report, then joins the thread.
  ~ProgressReporter();

  void update(const TrainingProgress& progress);
  bool stop_requested() const { return stop_requested_.load(); }

 private:
  void run();
  // Returns whether the answer asks for a stack.
  bool send(std::vector<std::string> stack = {});
  std::vector<std::string> look();
  RankProgress collect();

  const std::shared_ptr<Coordinator> coordinator_;
  const std::shared_ptr<Communicator> communicator_;
  const milliseconds interval_;
  const std::function<bool()> may_speak_;
  std::atomic<bool> stop_requested_ = false;
  WaitShare wait_share_;  // touched by the thread only
  Mutex mutex_;
  CondVar changed_;
  TrainingProgress latest_ LONGHAUL_GUARDED_BY(mutex_);
  pid_t trainer_ LONGHAUL_GUARDED_BY(mutex_);  // the thread that made this, or reported last
  bool closed_ LONGHAUL_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

}  // namespace longhaul
