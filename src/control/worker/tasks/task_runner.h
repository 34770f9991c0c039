// The tasks of arrays on this host: each batch that the master grants runs in a slot of its own,
// its tasks one after the other, each a process behind a shim. How a task ended, with its result,
// is said again after a reconnect until the master answers; then it is forgotten. A large result
// goes ahead of that by itself (result_uploader.h).
//
// A task dies with its worker: one that is started again holds no lease, and the master grants what
// it held to somebody else.
//
// Thread safety: none; lives on one EventLoop's thread. Not destroyed from inside a callback.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "cluster/cluster_messages.h"
#include "control/worker/host/event_loop.h"
#include "control/worker/process/managed_process.h"
#include "control/worker/process/oom_watch.h"
#include "control/worker/process/process_folder.h"
#include "control/worker/tasks/result_uploader.h"
#include "control/worker/tasks/warm_pool.h"
#include "longhaul/base/clock.h"
#include "longhaul/v1/worker_service.pb.h"
#include "rpc/credentials.h"

namespace longhaul {

struct TaskSite {
  std::string folder;  // for what tasks print and give; emptied at the start, removed at the end
  std::string shim;    // path of longhaul-shim
  int cores = 1;
  int slots = 1;
  std::vector<std::string> gpus;  // how CUDA calls them
  std::string master;             // HOST:PORT, where large results go
  Credentials credentials = plain_text();
  const Clock* clock = nullptr;      // outlives the runner
  OomWatch* oom_watch = nullptr;     // outlives the runner
  uint64_t descriptor_limit = 0;     // the tasks' soft limit of open files; 0: this process's own
  FolderRemover* remover = nullptr;  // outlives the runner
};

class TaskRunner {
 public:
  // Dropped when there is no connection: resend() comes after the next registration.
  using Send = std::function<void(v1::WorkerMessage)>;

  // `progressed` is called, later, when a task has ended or was forgotten.
  TaskRunner(EventLoop& loop, TaskSite site, Send send, std::function<void()> progressed);
  ~TaskRunner();
  TaskRunner(const TaskRunner&) = delete;
  TaskRunner& operator=(const TaskRunner&) = delete;

  void grant(const v1::GrantTasks& grant);
  void answered(const v1::TaskAnswers& answers);
  // SIGTERM now, SIGKILL after `grace` (0: at once); what has not begun ends at once. The second
  // form: of all jobs.
  void stop(const LaunchId& launch, milliseconds grace);
  void stop_all(milliseconds grace);

  // Begins no more tasks; what it is granted from now on waits, and a worker that comes after this
  // one finds the master giving it out again.
  void pause() { paused_ = true; }
  // Nothing is running, on its way or unanswered: this worker may vanish and no work is lost.
  bool nothing_to_lose() const;

  // Every lease that the master has not answered.
  void add_inventory(v1::Register* message) const;
  // The ends that the master may not have heard.
  void resend();

  // No process of a task is left, and no result is on its way.
  bool idle() const { return running_.empty() && uploading_.empty() && warm_.empty(); }

 private:
  struct Job {
    LaunchId launch;
    v1::JobSpec spec;
  };
  struct Task {
    std::shared_ptr<const Job> job;
    v1::Lease lease;
    std::string input;
    // What its batch is called, here and at the master: the epoch of the batch's first lease.
    LeaseEpoch batch = 0;
    std::vector<int> gpus;  // the batch's
    std::optional<v1::TaskEnded> ended;
    Instant given_at{};  // to a warm process
  };
  struct Running {
    ProcessFolder folder;
    // It refers to `folder`: so a Running stays where it is, on the heap.
    std::unique_ptr<ManagedProcess> process;
    EventLoop::TimerId kill_timer = 0;
    Instant started_at;
    std::optional<std::string> out_of_memory = std::nullopt;  // asked for once
    // Then it is not started again where the host had no room for it.
    bool told_to_stop = false;
  };
  // The result is read from the folder until it is stored; `ended` is told then.
  struct Uploading {
    ProcessFolder folder;
    v1::TaskEnded ended;
  };

  void next_of(LeaseEpoch batch);
  void start_next_of(LeaseEpoch batch);
  Result<void> start(LeaseEpoch epoch, Task& task);
  Result<void> start_warm(LeaseEpoch epoch, Task& task);
  void warm_ended(LeaseEpoch epoch, const WarmEnd& end);
  // `folder`: absent for a warm process, which learns of its tasks on stdin.
  Result<ProcessCommand> command_for(const Task& task, const ProcessFolder* folder) const;
  void process_ended(LeaseEpoch epoch, const ProcessEnd& end);
  void look_for_witness(LeaseEpoch epoch, const ProcessEnd& end);
  ProcessEnd with_witness(LeaseEpoch epoch, ProcessEnd end);
  void hold_back(LeaseEpoch epoch, const std::string& why);
  void end_of(LeaseEpoch epoch, const ProcessEnd& end);
  bool finish(LeaseEpoch epoch, const ProcessEnd& end);
  void tell(LeaseEpoch epoch, v1::TaskEnded ended);
  void send_ends();
  void forget(LeaseEpoch epoch);
  // kToStore: it is large, and has to be stored before the end can be told. kLater: it cannot be
  // read now.
  enum class Added { kHere, kToStore, kLater };
  Added add_result(const Task& task, const ProcessFolder& folder, v1::TaskEnded* ended) const;
  void store_result(LeaseEpoch epoch, ProcessFolder folder, v1::TaskEnded ended);
  void result_stored(LeaseEpoch epoch, const Result<ResultUploader::Stored>& stored);
  void stop_if(const std::function<bool(const Task&)>& wanted, milliseconds grace);
  void stop_one(LeaseEpoch epoch, milliseconds grace);
  std::string folder_of(LeaseEpoch epoch) const;

  EventLoop& loop_;
  const TaskSite site_;
  const Send send_;
  const std::function<void()> progressed_;
  // From the grant until the master has answered for its end.
  std::map<LeaseEpoch, Task> tasks_;                      // by the epoch of the lease
  std::map<LeaseEpoch, std::deque<LeaseEpoch>> batches_;  // what has not begun
  // Those with a process of their own; warm_ knows the others.
  std::map<LeaseEpoch, std::unique_ptr<Running>> running_;
  std::map<LeaseEpoch, std::unique_ptr<Uploading>> uploading_;
  WarmPool warm_;
  std::unique_ptr<ResultUploader> uploader_;  // made when it is first needed
  v1::WorkerMessage ends_;                    // not sent yet
  EventLoop::TimerId ends_timer_ = 0;
  std::string last_hold_;  // why a task was held back; told when it changes
  bool paused_ = false;
  // Set to false by the destructor, and shared with callbacks that are posted: one that runs later
  // sees that this object is gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace longhaul
