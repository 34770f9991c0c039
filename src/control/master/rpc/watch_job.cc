// WatchJob: a cursor into the job's feed, moved on whenever the watcher has taken what it was sent.
#include <memory>
#include <set>
#include <utility>

#include "control/master/feeds/feed_stream.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

class Watcher final : public FeedStream<v1::WatchJobEvent> {
 public:
  // Before the first wake().
  void attach(std::shared_ptr<JobFeed> feed, JobFeed::Cursor cursor) {
    feed_ = std::move(feed);
    cursor_ = std::move(cursor);
  }

 private:
  Next next(v1::WatchJobEvent* event, grpc::Status* /*status*/) override {
    switch (feed_->next(&cursor_, event)) {
      case JobFeed::Next::kEvent:
        return Next::kMessage;
      case JobFeed::Next::kNothingYet:
        return Next::kNothingYet;
      case JobFeed::Next::kEnd:
        break;
    }
    return Next::kEnd;
  }

  std::shared_ptr<JobFeed> feed_;
  JobFeed::Cursor cursor_;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchJobEvent>* JobServiceImpl::WatchJob(
    grpc::CallbackServerContext* /*context*/, const v1::WatchJobRequest* request) {
  const auto watcher = std::make_shared<Watcher>();
  watcher->hold(watcher);
  const bool posted = core_->post([this, watcher, request = *request](ClusterState& state, Now) {
    const Result<JobId> id = state.find(request.job(), request.life());
    if (!id) {
      watcher->refuse(to_status(id.failure()));
      return;
    }
    const Generation attempts = state.status(*id)->generation;
    const bool is_array = state.tasks(*id) != nullptr;  // whose tasks have attempts of their own
    if (!is_array && request.attempt() > attempts) {
      watcher->refuse(
          {grpc::StatusCode::INVALID_ARGUMENT,
           str_cat("job ", *id, " has had ", attempts, attempts == 1 ? " attempt" : " attempts",
                   ", and no number ", request.attempt())});
      return;
    }
    const std::shared_ptr<JobFeed> feed = core_->feed(*id);
    std::set<uint32_t> only_ranks(request.only_ranks().begin(), request.only_ranks().end());
    for (const uint64_t called : request.only_tasks()) {
      const Result<TaskIndex> task = state.task_called(*id, called);
      if (!task) {
        watcher->refuse(to_status(task.failure()));
        return;
      }
      only_ranks.insert(*task);
    }
    JobFeed::Cursor cursor = feed->start(request.output(), request.from_start(), request.follow(),
                                         std::move(only_ranks));
    cursor.attempt = request.attempt();
    cursor.since_unix_ms = request.since_unix_ms();
    watcher->attach(feed, std::move(cursor));
    // Listening first, so that nothing that comes in between is missed.
    feed->listen(watcher);
    watcher->wake();
  });
  if (!posted) watcher->refuse(closing());
  return watcher.get();
}

}  // namespace longhaul
