#include "control/master/core/output_store.h"

#include <utility>
#include <vector>

#include "control/convert/job_proto.h"
#include "control/master/feeds/output_log.h"

namespace longhaul {

OutputStore::OutputStore(const Owner& owner, Options options, const ClusterState& state)
    : owner_(owner), options_(std::move(options)), state_(state), thread_("lh-output", [this] {
        while (const auto write = long_writes_.pop()) (*write)();
      }) {}

OutputStore::~OutputStore() {
  close();
}

void OutputStore::close() {
  long_writes_.close();
  thread_.join();
}

std::string OutputStore::log_path(const JobId& job) const {
  return options_.folder.empty() ? "" : str_cat(options_.folder, "/", job, ".log");
}

std::shared_ptr<JobFeed> OutputStore::feed(const JobId& job) {
  owner_.assert_owner();
  std::shared_ptr<JobFeed>& feed = feeds_[job];
  if (feed != nullptr) return feed;
  feed = std::make_shared<JobFeed>(options_.bytes_per_job, log_path(job), &long_writes_);
  // The job may be of an earlier master, and nothing may happen to it any more: its status is
  // published now, so that whoever looks sees where it stands.
  const JobStatus* status = state_.status(job);
  if (status != nullptr) feed->publish(to_proto(*status), has_ended(status->state));
  return feed;
}

void OutputStore::append(const JobId& job, const v1::Output& piece) {
  owner_.assert_owner();
  const std::shared_ptr<JobFeed> kept = feed(job);
  kept->append(piece);
  // A disk that is full holds up nothing here: the piece is in memory, and write() tries again.
  if (!kept->write_log()) unwritten_.insert(job);
  if (kept->ended()) late_ = true;
}

void OutputStore::forget(const JobId& job) {
  owner_.assert_owner();
  // A feed is made where there is none: it knows where the log lies.
  feed(job)->remove_log();
  feeds_.erase(job);
}

void OutputStore::remove_log(const JobId& job) const {
  OutputLog(log_path(job)).remove();
}

bool OutputStore::write() {
  owner_.assert_owner();
  std::erase_if(unwritten_, [this](const JobId& job) {
    const auto found = feeds_.find(job);
    return found == feeds_.end() || found->second->write_log();
  });
  waits_ = !unwritten_.empty();
  return unwritten_.empty();
}

void OutputStore::trim_ended() {
  owner_.assert_owner();
  std::vector<const JobStatus*> jobs = state_.list(true);
  // From the newest job on: the budget goes to the newest ones.
  size_t kept = 0;
  for (auto job = jobs.rbegin(); job != jobs.rend(); ++job) {
    if (!has_ended((*job)->state)) continue;
    const auto found = feeds_.find((*job)->id);
    if (found == feeds_.end()) continue;
    kept += found->second->output_bytes();
    if (kept > options_.bytes_of_ended_jobs) found->second->clear_output();
  }
}

}  // namespace longhaul
