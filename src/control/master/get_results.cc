// GetResults: rows of the ledger in task order, as far as the job has come; it waits at the end of
// them for more until the job has ended.
#include <algorithm>
#include <deque>
#include <memory>
#include <utility>

#include "control/common/grpc_error.h"
#include "control/master/job_service.h"
#include "control/master/task_inputs.h"

namespace longhaul {
namespace {

// Rows read at once: their memory is what one slow reader costs.
constexpr size_t kRows = 16;

class ResultStream final : public grpc::ServerWriteReactor<v1::TaskResult>, public FeedListener {
 public:
  static std::shared_ptr<ResultStream> make() {
    auto stream = std::make_shared<ResultStream>();
    stream->self_ = stream;
    return stream;
  }

  void attach(ResultReader reader, std::shared_ptr<JobFeed> feed, uint64_t job, TaskIndex first,
              bool follow) {
    MutexLock lock(mutex_);
    reader_ = std::move(reader);
    feed_ = std::move(feed);
    job_ = job;
    next_ = first;
    follow_ = follow;
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
    if (!ok) finish({grpc::StatusCode::CANCELLED, "the reader is gone"});
    proceed();
  }

  void OnCancel() override {
    MutexLock lock(mutex_);
    finish({grpc::StatusCode::CANCELLED, "the reader is gone"});
  }

  void OnDone() override { self_.reset(); }

 private:
  void proceed() LONGHAUL_REQUIRES(mutex_) {
    if (writing_ || finished_ || !reader_) return;
    if (rows_.empty() && !read_rows()) return;
    if (rows_.empty()) return;
    ResultRow row = std::move(rows_.front());
    rows_.pop_front();
    message_.Clear();
    message_.set_task(row.task);
    message_.set_attempt(row.attempt);
    message_.set_result_bytes(row.bytes);
    message_.set_result(std::move(row.result));
    writing_ = true;
    StartWrite(&message_);
  }

  // False: the stream is at its end, or broken.
  bool read_rows() LONGHAUL_REQUIRES(mutex_) {
    const v1::JobStatus status = feed_->status();
    const TaskIndex end = status.array().ended_below();
    Result<std::vector<ResultRow>> rows = reader_->read(job_, next_, end, kRows);
    if (!rows) {
      finish(to_status(rows.failure()));
      return false;
    }
    // Fewer than asked for: the rest up to `end` were given up.
    next_ = rows->size() == kRows ? rows->back().task + 1 : std::max(next_, end);
    std::move(rows->begin(), rows->end(), std::back_inserter(rows_));
    const bool over = feed_->ended() || !follow_;
    if (rows_.empty() && over) {
      finish(grpc::Status::OK);
      return false;
    }
    return true;
  }

  void finish(const grpc::Status& status) LONGHAUL_REQUIRES(mutex_) {
    if (finished_) return;
    finished_ = true;
    Finish(status);
  }

  std::shared_ptr<ResultStream> self_;  // gRPC holds a plain pointer until OnDone()
  Mutex mutex_;
  std::optional<ResultReader> reader_ LONGHAUL_GUARDED_BY(mutex_);
  std::shared_ptr<JobFeed> feed_ LONGHAUL_GUARDED_BY(mutex_);
  uint64_t job_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  TaskIndex next_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  bool follow_ LONGHAUL_GUARDED_BY(mutex_) = false;
  std::deque<ResultRow> rows_ LONGHAUL_GUARDED_BY(mutex_);
  v1::TaskResult message_ LONGHAUL_GUARDED_BY(mutex_);
  bool writing_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool finished_ LONGHAUL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::TaskResult>* JobServiceImpl::GetResults(
    grpc::CallbackServerContext* /*context*/, const v1::GetResultsRequest* request) {
  const std::shared_ptr<ResultStream> stream = ResultStream::make();
  const bool posted = core_->post([this, stream, request = *request](ClusterState& state, Now) {
    const Result<JobId> id = state.find(request.job());
    if (!id) return stream->refuse(to_status(id.failure()));
    if (state.tasks(*id) == nullptr) {
      return stream->refuse({grpc::StatusCode::INVALID_ARGUMENT,
                             str_cat("job ", *id, " is a gang: it has output (longhaul logs ", *id,
                                     "), and no results")});
    }
    Result<ResultReader> reader = ResultReader::open(core_->state_folder());
    if (!reader) return stream->refuse(to_status(reader.failure()));
    const std::shared_ptr<JobFeed> feed = core_->feed(*id);
    feed->listen(stream);
    stream->attach(std::move(*reader), feed, state.record(*id)->number, request.first_task(),
                   request.follow());
  });
  if (!posted) stream->refuse(closing());
  return stream.get();
}

}  // namespace longhaul
