#include "control/database/memory.h"

#include <algorithm>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Stands for a job whose own row cannot be read: it shows as failed, with the reason, instead of
// being gone without a word.
JobRecord lost_record(uint64_t number, const std::string& why) {
  JobRecord job;
  job.number = number;
  job.damage = why;
  job.status.id = job_id(number);
  job.status.state = JobState::kFailed;
  job.status.exit_code = 1;
  job.status.reason = str_cat("its row in the master's database cannot be read: ", why);
  job.status.failure.emplace();
  job.status.failure->failure_class = FailureClass::kStateDamaged;
  job.status.failure->message = job.status.reason;
  return job;
}

JobRecord job_of(uint64_t number, const std::string& bytes, milliseconds shift,
                 const DatabaseContents& contents) {
  Result<JobRecord> job = job_record_from(bytes, shift);
  if (job && (job->number != number || job->status.id != job_id(number))) {
    job = Failure{ErrorKind::kCorrupt, "it is not the row of this job"};
  }
  if (!job) return lost_record(number, job.failure().message);
  const auto damaged = contents.damaged.find(number);
  if (damaged != contents.damaged.end()) job->damage = damaged->second;
  return std::move(*job);
}

template <typename Rows>
bool any_unknown(const Rows& rows, const JobsTable::Kept& jobs) {
  return std::any_of(rows.begin(), rows.end(),
                     [&](const auto& row) { return !jobs.contains(row.first); });
}

// What a table kept for one job, or nothing.
template <typename Kept>
typename Kept::mapped_type of_job(const Kept& kept, uint64_t number) {
  const auto found = kept.find(number);
  return found == kept.end() ? typename Kept::mapped_type() : found->second;
}

}  // namespace

ClusterMemory remember(const DatabaseContents& contents, milliseconds shift,
                       std::vector<std::string>* unreadable) {
  ClusterMemory memory;
  memory.boot = static_cast<uint32_t>(contents.boot);
  memory.life = contents.life;
  memory.new_life = contents.new_life.value_or("");
  memory.last_job = contents.last_job;
  *unreadable = contents.unreadable;
  const JobsTable::Kept& jobs = contents.of<JobsTable>();
  for (const auto& [number, bytes] : jobs) {
    JobRecord job = job_of(number, bytes, shift, contents);
    const JobId id = job.status.id;
    memory.stores[id] = of_job(contents.of<StoreTable>(), number);
    memory.tasks[id] = of_job(contents.of<TasksTable>(), number);
    const std::string lost =
        remember_datasets(of_job(contents.of<DatasetsTable>(), number), &memory.shards[id]);
    // The first damage that was found is the one that is told.
    if (!lost.empty() && job.damage.empty()) job.damage = lost;
    if (!job.damage.empty()) unreadable->push_back(str_cat("job ", id, ": ", job.damage));
    memory.jobs.push_back(std::move(job));
  }
  if (any_unknown(contents.of<TasksTable>(), jobs) ||
      any_unknown(contents.of<StoreTable>(), jobs)) {
    unreadable->push_back("rows of jobs that have no row of their own");
  }
  for (const auto& [id, bytes] : contents.of<WorkersTable>()) {
    Result<WorkerRecord> worker = worker_record_from(bytes, shift);
    if (worker && worker->id == id) {
      memory.workers.push_back(std::move(*worker));
    } else {
      unreadable->push_back(str_cat("worker ", id));
    }
  }
  return memory;
}

}  // namespace longhaul
