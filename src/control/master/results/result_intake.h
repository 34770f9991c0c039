// Large results on their way in: which of them are here, and the one thread that writes their files
// (put_result.cc is the RPC).
//
// Thread safety: post() and name_of() from any thread; `Files` only on the thread behind post();
// the rest on the owner thread. What is posted from one thread happens in that order.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/queue.h"
#include "base/thread.h"
#include "cluster/cluster_state.h"
#include "control/database/result_files.h"

namespace longhaul {

class ResultIntake {
 public:
  // What the thread behind post() has in hand.
  struct Files {
    ResultFiles files;
    // Being written. A second try of a worker takes over from its first.
    std::map<ResultName, std::shared_ptr<ResultDraft>> drafts;
  };

  // `state_folder` is the database's; empty: no results come.
  explicit ResultIntake(const std::string& state_folder);
  ~ResultIntake() { close(); }

  // False, and the task is dropped, when the master is closing.
  bool post(std::function<void(Files&)> task) { return tasks_.push(std::move(task)); }
  // Runs what was posted, then ends the thread.
  void close();

  // At the master's start: files of leases that are current, or that have committed, stay, and
  // those of which the state knows nothing, which are counted. Errors: kUnavailable.
  Result<size_t> sweep(const ClusterState& state);

  // Precondition: a lease of this job is current.
  static ResultName name_of(const JobId& job, const Lease& lease);

  // One is going to come, or goes on coming.
  void expect(const ResultName& name) { coming_.try_emplace(name); }
  // It is whole, and on disk.
  void stored(const ResultName& name, uint64_t bytes);
  // The size of one that is whole and waits for its task's end.
  std::optional<uint64_t> whole(const ResultName& name) const;

  // A lease has ended. `committed`: its file, if it has one, is the task's result now, and what
  // other attempts at the task have left goes; else it goes itself.
  void lease_ended(const ResultName& name, bool committed);
  // The job has ended: what no task refers to goes.
  void job_ended(uint64_t job);
  void job_forgotten(uint64_t job);

 private:
  using Coming = std::map<ResultName, std::optional<uint64_t>>;  // -> its size when it is whole
  void drop(Coming::iterator first, Coming::iterator last);

  // The owner thread's. Of leases that are current, or were when their file began to come.
  Coming coming_;
  Queue<std::function<void(Files&)>> tasks_;
  Files files_;
  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul
