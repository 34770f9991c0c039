// GetResults: rows of the ledger in task order, as far as the job has come; it waits at the end of
// them for more until the job has ended. Rows are read on gRPC's threads and on one of our own,
// never on the owner thread.
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <iterator>
#include <memory>
#include <utility>

#include "control/common/grpc_error.h"
#include "control/master/feed_stream.h"
#include "control/master/job_service.h"

namespace longhaul {
namespace {

// Rows read at once, and bytes of a result that is a file: their memory is what one slow reader
// costs.
constexpr size_t kRows = 16;
constexpr size_t kFileBytes = size_t{1} << 20;

class ResultStream final : public FeedStream<v1::TaskResult>,
                           public std::enable_shared_from_this<ResultStream> {
 public:
  explicit ResultStream(Queue<std::function<void()>>* lookups) : lookups_(lookups) {}

  // Before the first wake().
  void attach(ResultReader reader, std::string state_folder, std::shared_ptr<JobFeed> feed,
              uint64_t job, TaskIndex first, bool follow) {
    reader_ = std::move(reader);
    state_folder_ = std::move(state_folder);
    feed_ = std::move(feed);
    job_ = job;
    next_ = first;
    follow_ = follow;
  }

  // From the owner thread, which must not wait for the disk.
  void wake() override {
    lookups_->push([self = shared_from_this()] { self->proceed(); });
  }

 private:
  Next next(v1::TaskResult* message, grpc::Status* status) override {
    if (file_) return next_of_file(message);
    if (rows_.empty()) {
      // Before the rows: what has ended by then is read.
      const bool over = feed_->ended() || !follow_;
      if (const Result<void> read = read_rows(); !read) {
        *status = to_status(read.failure());
        return Next::kEnd;
      }
      if (rows_.empty()) return over ? Next::kEnd : Next::kNothingYet;
    }
    ResultRow row = std::move(rows_.front());
    rows_.pop_front();
    message->set_task(row.task);
    message->set_attempt(row.attempt);
    message->set_result_bytes(row.bytes);
    message->set_result(std::move(row.result));
    if (!row.damaged.empty()) return damaged(message, row.damaged);
    if (row.file_bytes == 0) return Next::kMessage;
    Result<UniqueFd> file = open_result_file(state_folder_, {job_, row.task, row.epoch});
    if (!file && file.failure().kind == ErrorKind::kCorrupt) {
      return damaged(message, file.failure().message);
    }
    if (!file) {
      *status = to_status(file.failure());
      return Next::kEnd;
    }
    file_ = std::move(*file);
    row_ = std::move(row);
    file_offset_ = 0;
    return next_of_file(message);
  }

  Next next_of_file(v1::TaskResult* message) {
    message->set_task(row_.task);
    message->set_attempt(row_.attempt);
    message->set_result_bytes(row_.bytes);
    std::string& piece = *message->mutable_result();
    piece.resize(std::min<uint64_t>(kFileBytes, row_.file_bytes - file_offset_));
    ssize_t read = 0;
    do {
      read = ::pread(file_->get(), piece.data(), piece.size(), static_cast<off_t>(file_offset_));
    } while (read < 0 && errno == EINTR);
    if (read <= 0) {
      const std::string why = read < 0 ? str_cat("its file cannot be read: ", ::strerror(errno))
                                       : str_cat("its file ends after ", file_offset_, " of ",
                                                 row_.file_bytes, " bytes");
      file_.reset();
      return damaged(message, why);
    }
    piece.resize(static_cast<size_t>(read));
    file_offset_ += piece.size();
    message->set_more(file_offset_ < row_.file_bytes);
    if (!message->more()) file_.reset();
    return Next::kMessage;
  }

  // It is named and passed over.
  static Next damaged(v1::TaskResult* message, const std::string& why) {
    message->clear_result();
    message->clear_more();
    message->set_damaged(why);
    return Next::kMessage;
  }

  Result<void> read_rows() {
    const TaskIndex end = feed_->status().array().ended_below();
    Result<std::vector<ResultRow>> rows = reader_->read(job_, next_, end, kRows);
    if (!rows) return rows.failure();
    // Fewer than asked for: the rest up to `end` were given up.
    next_ = rows->size() == kRows ? rows->back().task + 1 : std::max(next_, end);
    std::move(rows->begin(), rows->end(), std::back_inserter(rows_));
    return {};
  }

  Queue<std::function<void()>>* const lookups_;
  std::optional<ResultReader> reader_;
  std::shared_ptr<JobFeed> feed_;
  uint64_t job_ = 0;
  TaskIndex next_ = 0;
  bool follow_ = false;
  std::deque<ResultRow> rows_;
  std::string state_folder_;
  std::optional<UniqueFd> file_;  // of row_, which is on its way
  ResultRow row_;
  uint64_t file_offset_ = 0;
};

}  // namespace

grpc::ServerWriteReactor<v1::TaskResult>* JobServiceImpl::GetResults(
    grpc::CallbackServerContext* /*context*/, const v1::GetResultsRequest* request) {
  const auto stream = std::make_shared<ResultStream>(&lookups_);
  stream->hold(stream);
  const bool posted = core_->post([this, stream, request = *request](ClusterState& state, Now) {
    const Result<JobId> id = state.find(request.job(), request.life());
    if (!id) return stream->refuse(to_status(id.failure()));
    if (state.tasks(*id) == nullptr) {
      return stream->refuse({grpc::StatusCode::INVALID_ARGUMENT,
                             str_cat("job ", *id, " is a gang: it has output (longhaul logs ", *id,
                                     "), and no results")});
    }
    Result<ResultReader> reader = ResultReader::open(core_->state_folder());
    if (!reader) return stream->refuse(to_status(reader.failure()));
    const std::shared_ptr<JobFeed> feed = core_->feed(*id);
    stream->attach(std::move(*reader), core_->state_folder(), feed, state.record(*id)->number,
                   request.first_task(), request.follow());
    feed->listen(stream);
    stream->wake();
  });
  if (!posted) stream->refuse(closing());
  return stream.get();
}

}  // namespace longhaul
