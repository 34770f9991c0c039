// What jobs have printed, and who follows them: a feed for each job (feeds/job_feed.h), whose
// output is kept in memory and in a log, up to a cap each, and all ended jobs together up to
// another. What the disk does not take waits here; what is left out of logs, a thread of its own
// writes.
//
// Thread safety: the owner thread's; the feeds are anybody's, and disk_full() too.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "base/owner.h"
#include "base/thread.h"
#include "cluster/cluster_state.h"
#include "control/master/feeds/job_feed.h"

namespace longhaul {

class OutputStore {
 public:
  struct Options {
    std::string folder;  // empty: in memory only
    size_t bytes_per_job = size_t{16} << 20;
    size_t bytes_of_ended_jobs = size_t{256} << 20;
  };
  OutputStore(const Owner& owner, Options options, const ClusterState& state);
  ~OutputStore();

  // Of a job that is known, or was.
  std::shared_ptr<JobFeed> feed(const JobId& job);
  void append(const JobId& job, const v1::Output& piece);
  // Removes its log too.
  void forget(const JobId& job);
  // Of a job that an earlier master has forgotten.
  void remove_log(const JobId& job) const;

  // Tries again what found the disk full. False: some of it still does.
  bool write();
  // Whether there is something that found the disk full.
  bool some_waits() const { return !unwritten_.empty(); }
  bool disk_full() const { return waits_; }
  const std::string& folder() const { return options_.folder; }

  // Output has come of a job that has ended, since this was last asked.
  bool take_late() { return std::exchange(late_, false); }
  // The output of ended jobs shares one budget; the oldest go first.
  void trim_ended();

  // Done on the store's thread.
  void do_later(std::function<void()> work) { long_writes_.push(std::move(work)); }
  // Ends that thread, after what it has to do.
  void close();

 private:
  std::string log_path(const JobId& job) const;

  const Owner& owner_;
  const Options options_;
  const ClusterState& state_;
  JobFeed::LongWrites long_writes_;
  // Made when somebody first asks for one, which reads the job's log. Shared with readers, who may
  // keep one longer than this does.
  std::map<JobId, std::shared_ptr<JobFeed>> feeds_;
  std::set<JobId> unwritten_;  // jobs with output that found the disk full
  // Whether unwritten_ held something at the last write(), for other threads.
  std::atomic<bool> waits_ = false;
  bool late_ = false;
  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul
