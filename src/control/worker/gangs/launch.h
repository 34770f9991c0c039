// The ranks of one launch on this host: spawned, watched, their output sent, stopped; or taken over
// from a worker that was killed.
//
// Thread safety: none; lives on one EventLoop's thread. Not destroyed from inside a callback.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/cluster_messages.h"
#include "control/worker/gangs/launch_record.h"
#include "control/worker/host/event_loop.h"
#include "control/worker/output/output_flow.h"
#include "control/worker/process/folder_remover.h"
#include "control/worker/process/managed_process.h"
#include "control/worker/process/oom_watch.h"
#include "control/worker/process/process_folder.h"
#include "control/worker/process/rank_environment.h"
#include "longhaul/v1/agent_service.pb.h"
#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

// What all launches of a worker share.
struct LaunchSite {
  std::string host_address;
  std::string interface;      // see RankPlace
  std::string agent_address;  // "unix:/path"
  ShimOptions shim;
  std::string spool_folder;
  int cores = 1;
  std::vector<std::string> gpus;  // how CUDA calls them
  OomWatch* oom_watch = nullptr;  // this and the next outlive all launches
  FolderRemover* remover = nullptr;
};

class Launch {
 public:
  struct Listener {
    // A rank's event that the master should hear now.
    std::function<void(v1::RankEvent)> event;
    // There is output, or an exit, to send.
    std::function<void()> progressed;
    std::function<void(Rank)> rank_ended;
  };

  Launch(EventLoop& loop, const LaunchSite& site, v1::Launch request, Listener listener);
  ~Launch();

  // Spawns all ranks. One that cannot be spawned ends at once with launch_error.
  void start();
  // Takes over the ranks that another worker spawned for this request in the same place, and spawns
  // those that it was killed before it could. The listener hears of them as if they had just been
  // spawned; then `event` is called with what the ranks had said.
  void adopt();

  // To be told to the master by whoever adopts this launch, too.
  void remember(const v1::RankEvent& event) const { record_.add_event(event); }

  // SIGTERM now, SIGKILL after `grace` (0: at once). `reason` is for those who ask why. A second
  // call can only bring the SIGKILL forward.
  void stop(milliseconds grace, const std::string& reason);
  // This worker was told to stop, and its ranks with it: nobody's failure.
  void preempt() { preempted_ = true; }
  bool stopping() const { return stop_reason_.has_value(); }
  const std::string& stop_reason() const { return *stop_reason_; }

  // The master has done with this launch: its ranks are to end and nothing of them is told, but
  // what they print when that is still wanted.
  void disown(bool output_wanted) {
    disowned_ = true;
    output_wanted_ = output_wanted;
  }
  bool disowned() const { return disowned_; }
  bool output_wanted() const { return output_wanted_; }

  const LaunchId& id() const { return id_; }
  size_t rank_count() const { return ranks_.size(); }
  size_t running_count() const;
  bool all_ended() const { return running_count() == 0; }

  // Who holds this token, while it runs.
  std::optional<Rank> find_token(const std::string& token) const;
  v1::JoinReply placement(Rank rank) const;
  // See ProcessFolder::call_id().
  uint64_t call_id(Rank rank, uint64_t number, uint64_t fresh) const;

  // Gives rank 0 of its stdin what is new, and says how much it has now. nullopt: it is not here.
  std::optional<v1::InputTaken> give_input(const v1::RankInput& input);

  // How the process of a rank stands now; the rank's own answer to a report will ask for its stack.
  // nullopt: it does not run here.
  std::optional<v1::RankEvent> look_at(Rank rank);
  // Whether its stack is wanted: yes once.
  bool take_stack_wish(Rank rank) { return std::exchange(at(rank).stack_wanted, false); }

  // Output in order of sending, within the window; then the exits of ranks whose output is all
  // sent.
  std::optional<v1::RankOutput> next_output();
  std::vector<v1::RankEvent> take_exits();
  // take_exits() gives this one again.
  void retell_exit(Rank rank);
  void acknowledge_output(uint64_t bytes) { output_.acknowledge(bytes); }
  void restart_output() { output_.restart(); }
  bool output_done() const { return output_.all_acknowledged(); }
  bool exits_taken() const;

  v1::RankEvent event_of(Rank rank) const;

 private:
  struct RankHere {
    Rank rank = 0;
    int local_rank = 0;
    std::string token;
    std::optional<ProcessFolder> folder;  // none: it could not be made
    // It refers to `folder`, and is destroyed before it.
    std::unique_ptr<ManagedProcess> process;
    std::optional<ProcessEnd> end;
    std::optional<std::string> out_of_memory;  // asked for once, soon after its first process ended
    // Given out by take_exits(), and not asked for again since.
    bool exit_taken = false;
    bool stack_wanted = false;
    // Its exit has waited long enough for its output (kOutputPatience).
    bool output_overdue = false;
  };

  void start(RankHere& rank);
  void try_to_start(RankHere& rank, int tries_left);
  void look_again_at_output();
  Result<void> spawn(RankHere& rank);
  void adopt(RankHere& rank);
  void cannot_start(RankHere& rank, const Failure& why);
  void read_output_of(const RankHere& rank);
  RankPlace place_of(const RankHere& rank) const;
  Result<ProcessCommand> command_for(const RankHere& rank) const;
  ManagedProcess::Listener listener_for(RankHere& rank);
  ShimOptions shim_options(const RankHere& rank) const;
  bool has_input(const RankHere& rank) const { return rank.rank == 0 && request_.spec().input(); }
  void look_for_witness(RankHere& rank, const ProcessEnd& end);
  void rank_ended(RankHere& rank, const ProcessEnd& end);
  void command_all(void (ManagedProcess::*command)());
  bool ready_to_tell(const RankHere& rank) const;
  v1::RankEvent exit_event(const RankHere& rank);
  const RankHere& at(Rank rank) const;
  RankHere& at(Rank rank) { return const_cast<RankHere&>(std::as_const(*this).at(rank)); }
  // In output_: stdout and stderr of the first rank, of the second, ...
  static size_t stdout_of(const RankHere& rank) { return static_cast<size_t>(rank.local_rank) * 2; }
  static size_t stderr_of(const RankHere& rank) { return stdout_of(rank) + 1; }

  EventLoop& loop_;
  const LaunchSite site_;
  const v1::Launch request_;
  const LaunchId id_;
  const LaunchRecord record_;
  Listener listener_;
  // Never resized: timers and listeners hold references to its elements.
  std::vector<RankHere> ranks_;  // by local rank
  OutputFlow output_;
  bool disowned_ = false;
  bool output_wanted_ = true;
  std::optional<std::string> stop_reason_;
  bool preempted_ = false;
  // When all get SIGKILL; valid once stop_reason_ is set.
  Instant kill_at_;
  EventLoop::TimerId kill_timer_ = 0;
  // All that were ever set for single ranks; cancelled at the end.
  std::vector<EventLoop::TimerId> timers_;
  EventLoop::TimerId output_timer_ = 0;
};

}  // namespace longhaul
