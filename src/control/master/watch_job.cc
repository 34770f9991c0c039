// WatchJob: a cursor into the job's feed, moved on whenever the watcher has taken what it was sent.
#include <memory>
#include <set>
#include <utility>

#include "control/common/grpc_error.h"
#include "control/master/job_service.h"

namespace longhaul {
namespace {

class Watcher final : public grpc::ServerWriteReactor<v1::WatchJobEvent>, public FeedListener {
 public:
  static std::shared_ptr<Watcher> make() {
    auto watcher = std::make_shared<Watcher>();
    watcher->self_ = watcher;
    return watcher;
  }

  void attach(std::shared_ptr<JobFeed> feed, JobFeed::Cursor cursor) {
    MutexLock lock(mutex_);
    feed_ = std::move(feed);
    cursor_ = std::move(cursor);
    proceed();
  }

  void refuse(const grpc::Status& status) {
    MutexLock lock(mutex_);
    finish(status);
  }

  void wake() override {
    MutexLock lock(mutex_);
    proceed();
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) finish({grpc::StatusCode::CANCELLED, "the watcher is gone"});
    proceed();
  }

  void OnCancel() override {
    MutexLock lock(mutex_);
    cancelled_ = true;
    proceed();
  }

  void OnDone() override { self_.reset(); }

 private:
  void proceed() LONGHAUL_REQUIRES(mutex_) {
    if (writing_ || finished_) return;
    if (cancelled_) {
      finish({grpc::StatusCode::CANCELLED, "the watcher is gone"});
      return;
    }
    if (feed_ == nullptr) return;
    event_.Clear();
    switch (feed_->next(&cursor_, &event_)) {
      case JobFeed::Next::kEvent:
        writing_ = true;
        StartWrite(&event_);
        break;
      case JobFeed::Next::kNothingYet:
        break;
      case JobFeed::Next::kEnd:
        finish(grpc::Status::OK);
        break;
    }
  }

  void finish(const grpc::Status& status) LONGHAUL_REQUIRES(mutex_) {
    if (finished_) return;
    finished_ = true;
    Finish(status);
  }

  std::shared_ptr<Watcher> self_;  // gRPC holds a plain pointer until OnDone()
  Mutex mutex_;
  std::shared_ptr<JobFeed> feed_ LONGHAUL_GUARDED_BY(mutex_);
  JobFeed::Cursor cursor_ LONGHAUL_GUARDED_BY(mutex_);
  v1::WatchJobEvent event_ LONGHAUL_GUARDED_BY(mutex_);
  bool writing_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool finished_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool cancelled_ LONGHAUL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchJobEvent>* JobServiceImpl::WatchJob(
    grpc::CallbackServerContext* /*context*/, const v1::WatchJobRequest* request) {
  const std::shared_ptr<Watcher> watcher = Watcher::make();
  const bool posted = core_->post([this, watcher, request = *request](ClusterState& state, Now) {
    const Result<JobId> id = state.find(request.job());
    if (!id) {
      watcher->refuse(to_status(id.failure()));
      return;
    }
    const std::shared_ptr<JobFeed> feed = core_->feed(*id);
    std::set<uint32_t> only_ranks(request.only_ranks().begin(), request.only_ranks().end());
    JobFeed::Cursor cursor = feed->start(request.output(), request.from_start(), request.follow(),
                                         std::move(only_ranks));
    feed->listen(watcher);
    watcher->attach(feed, std::move(cursor));
  });
  if (!posted) watcher->refuse(closing());
  return watcher.get();
}

}  // namespace longhaul
