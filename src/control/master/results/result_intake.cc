#include "control/master/results/result_intake.h"

#include <limits>
#include <utility>
#include <vector>

namespace longhaul {

ResultIntake::ResultIntake(const std::string& state_folder)
    : files_{ResultFiles(state_folder), {}}, thread_("lh-files", [this] {
        while (const auto task = tasks_.pop()) (*task)(files_);
      }) {}

void ResultIntake::close() {
  tasks_.close();
  thread_.join();
}

Result<size_t> ResultIntake::sweep(const ClusterState& state) {
  using Standing = ResultFiles::Standing;
  const auto standing = [&](const ResultName& name) {
    const TaskTable* tasks = state.tasks(str_cat("j", name.job));
    if (tasks == nullptr || name.task >= tasks->size()) return Standing::kUnknown;
    const TaskRecord record = tasks->record(name.task);
    // A lease that the table has never granted: the table may be older than the file, put back from
    // a copy. The file is kept.
    if (record.attempt == 0 || record.epoch < name.epoch) return Standing::kUnknown;
    if (record.epoch > name.epoch) return Standing::kOver;
    if (record.state == TaskState::kDone) return Standing::kResult;
    return record.state == TaskState::kLeased ? Standing::kExpected : Standing::kOver;
  };
  return files_.files.sweep(
      [&](const ResultName& name) {
        const Standing found = standing(name);
        if (found == Standing::kExpected) expect(name);
        return found;
      },
      [&](const ResultName& name, uint64_t bytes) { stored(name, bytes); });
}

ResultName ResultIntake::name_of(const JobId& job, const Lease& lease) {
  return {std::stoull(job.substr(1)), lease.task, lease.epoch};
}

void ResultIntake::stored(const ResultName& name, uint64_t bytes) {
  coming_[name] = bytes;
}

std::optional<uint64_t> ResultIntake::whole(const ResultName& name) const {
  const auto found = coming_.find(name);
  return found == coming_.end() ? std::nullopt : found->second;
}

void ResultIntake::lease_ended(const ResultName& name, bool committed) {
  if (!committed) {
    const auto found = coming_.find(name);
    if (found != coming_.end()) drop(found, std::next(found));
    return;
  }
  // Its own file stays: the row names it now. What other attempts at the task have left goes.
  coming_.erase(name);
  drop(coming_.lower_bound({name.job, name.task, 0}),
       coming_.lower_bound({name.job, name.task + 1, 0}));
}

void ResultIntake::job_ended(uint64_t job) {
  drop(coming_.lower_bound({job, 0, 0}), coming_.lower_bound({job + 1, 0, 0}));
}

void ResultIntake::job_forgotten(uint64_t job) {
  job_ended(job);
  // On the files' thread, behind all that was posted for the job before: nothing of it is written
  // any more.
  post([job](Files& files) { files.files.remove_job(job); });
}

void ResultIntake::drop(Coming::iterator first, Coming::iterator last) {
  std::vector<ResultName> names;
  for (auto one = first; one != last; ++one) names.push_back(one->first);
  coming_.erase(first, last);
  if (names.empty()) return;
  post([names = std::move(names)](Files& files) {
    // The draft is closed first, so that a call that still writes to it finds itself superseded.
    for (const ResultName& name : names) {
      files.drafts.erase(name);
      files.files.remove(name);
    }
  });
}

}  // namespace longhaul
