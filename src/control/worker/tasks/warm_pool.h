// The warm processes of a worker (warm_process.h): each runs the tasks of one slot of one job, one
// after the other, also those of the slot's next batch if that comes soon. A task whose process
// dies has failed, it alone; the next one gets a process of its own.
//
// Thread safety: none; lives on one EventLoop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/cluster_messages.h"
#include "control/worker/tasks/warm_process.h"

namespace longhaul {

// Who may share a process.
struct WarmKey {
  LaunchId launch;
  std::vector<int> gpus;
  bool operator==(const WarmKey&) const = default;
};

// What became of a task.
struct WarmEnd {
  std::optional<std::string> answer;  // with its line end; absent: there is none
  ProcessEnd end;                     // how the process ended, where there is none
  std::string refused;                // instead of `end`: what it did against the rules
  std::string said;                   // the end of its stderr while it was on this task
  pid_t pid = 0;                      // of a process that has ended
};

struct WarmOptions {
  std::string folder;
  FolderRemover* remover = nullptr;  // outlives the pool
  ShimOptions shim;
  uint64_t longest = 0;  // bytes of an answer
};

class WarmPool {
 public:
  // Both are called on the loop's thread, never from inside run() or stop(). `gone`: a process that
  // ran nothing has ended.
  using Done = std::function<void(LeaseEpoch task, const WarmEnd& end)>;

  WarmPool(EventLoop& loop, Done done, std::function<void()> gone)
      : loop_(loop), done_(std::move(done)), gone_(std::move(gone)) {}
  ~WarmPool();
  WarmPool(const WarmPool&) = delete;
  WarmPool& operator=(const WarmPool&) = delete;

  // Gives a task to a process that is free, or to a new one of `command`. Errors: as
  // WarmProcess::start() and give(); `done` is not called then.
  Result<void> run(const WarmKey& key, LeaseEpoch task, const std::string& input,
                   const WarmOptions& options,
                   const std::function<Result<ProcessCommand>()>& command);
  bool runs(LeaseEpoch task) const;
  // SIGTERM now, SIGKILL after `grace` (0: at once).
  void stop(LeaseEpoch task, milliseconds grace);
  // Ends the processes that run nothing; of one job, or of all.
  void end_idle(const std::optional<LaunchId>& launch);
  // No task runs in one.
  bool idle() const;
  bool empty() const { return slots_.empty(); }

 private:
  struct Slot {
    WarmKey key;
    std::unique_ptr<WarmProcess> process;
    std::optional<LeaseEpoch> task;
    EventLoop::TimerId timer = 0;  // idle: its end; stopped: SIGKILL
    bool ending = false;
  };

  Result<uint64_t> find_or_start(const WarmKey& key, LeaseEpoch task, const WarmOptions& options,
                                 const std::function<Result<ProcessCommand>()>& command);
  void answered(uint64_t id, std::string answer);
  void ended(uint64_t id, const ProcessEnd& end, const std::string& broken);
  void finish(Slot& slot, const WarmEnd& end);
  void end_slot(Slot& slot);
  void post(std::function<void()> task);

  EventLoop& loop_;
  const Done done_;
  const std::function<void()> gone_;
  std::map<uint64_t, Slot> slots_;
  uint64_t last_id_ = 0;
  // Set to false by the destructor, and shared with callbacks that are posted: one that runs later
  // sees that this object is gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace longhaul
