// GetResults: rows of the database in task order, as far as the job has come; it waits at the end
// of them for more until the job has ended. Rows are read on gRPC's threads and on one of our own,
// never on the owner thread.
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <utility>

#include "control/master/feeds/feed_stream.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

// Rows read at once, and bytes of a result that is a file. A slow reader keeps these in memory: up
// to 16 results of 256 KiB, and a piece of 1 MiB.
constexpr size_t kRows = 16;
constexpr size_t kFileBytes = size_t{1} << 20;

v1::TaskOutcome outcome_of(TaskState state) {
  if (state == TaskState::kDone) return v1::TASK_OUTCOME_DONE;
  return state == TaskState::kQuarantined ? v1::TASK_OUTCOME_GIVEN_UP : v1::TASK_OUTCOME_CANCELLED;
}

// What is read, and from where.
struct WantedResults {
  ResultReader reader;
  std::string state_folder;
  std::shared_ptr<JobFeed> feed;
  uint64_t job = 0;                  // its number
  std::optional<ArraySpec> indices;  // what the tasks are called, unless by their places
  std::optional<TaskInputs> inputs;  // asked for
  InputReader input_reader;
  bool follow = false;
  bool all_ended = false;
  bool only_failed = false;
};

class ResultStream final : public FeedStream<v1::TaskResult>,
                           public std::enable_shared_from_this<ResultStream> {
 public:
  explicit ResultStream(Queue<std::function<void()>>* lookups) : lookups_(lookups) {}

  // Before the first wake().
  void attach(WantedResults source, TaskIndex first) {
    source_.emplace(std::move(source));
    next_ = first;
  }

  // From the owner thread, which must not wait for the disk.
  void wake() override {
    lookups_->push([self = shared_from_this()] { self->proceed(); });
  }

 private:
  Next next(v1::TaskResult* message, grpc::Status* status) override {
    if (file_) return next_of_file(message);
    while (rows_.empty()) {
      // Asked before `end`: a job that ends in between is looked at once more. The other way round
      // the stream might end without the last tasks.
      const bool over = source_->feed->ended() || !source_->follow;
      const TaskIndex end = source_->feed->status().array().ended_below();
      if (next_ >= end) return over ? Next::kEnd : Next::kNothingYet;
      if (const Result<void> read = read_rows(end); !read) {
        *status = to_status(read.failure());
        return Next::kEnd;
      }
    }
    EndedRow row = std::move(rows_.front());
    rows_.pop_front();
    describe(row.task, message);
    if (!row.result) return Next::kMessage;
    message->set_attempt(row.result->attempt);
    message->set_result_bytes(row.result->bytes);
    message->set_result(std::move(row.result->result));
    if (!row.result->damaged.empty()) return damaged(message, row.result->damaged);
    if (row.result->file_bytes == 0) return Next::kMessage;
    Result<UniqueFd> file =
        open_result_file(source_->state_folder, {source_->job, row.task.task, row.result->epoch});
    if (!file && file.failure().kind == ErrorKind::kCorrupt) {
      return damaged(message, file.failure().message);
    }
    if (!file) {
      *status = to_status(file.failure());
      return Next::kEnd;
    }
    // The file is open from here on: it can be read to its end even if its job is forgotten
    // meanwhile.
    file_ = std::move(*file);
    row_ = std::move(*row.result);
    file_offset_ = 0;
    return next_of_file(message);
  }

  // All but the result itself.
  void describe(const TaskRecord& task, v1::TaskResult* message) {
    message->set_task(called(task.task));
    message->set_attempt(task.attempt);
    message->set_outcome(outcome_of(task.state));
    message->set_worker_id(task.holder.worker);
    if (task.ran_ms != kNotMeasured) message->set_ran_ms(task.ran_ms);
    if (task.state != TaskState::kDone) message->set_error(task.reason);
    if (!source_->inputs) return;
    Result<std::string> input = source_->inputs->input(task.task, source_->input_reader);
    if (input) {
      message->set_input(std::move(*input));
    } else {
      message->set_input_damaged(input.failure().message);
    }
  }

  uint64_t called(TaskIndex task) const {
    return source_->indices ? source_->indices->index(task) : task;
  }

  Next next_of_file(v1::TaskResult* message) {
    message->set_task(called(row_.task));
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

  // The result is named as damaged and passed over: the stream goes on with the next one.
  static Next damaged(v1::TaskResult* message, const std::string& why) {
    message->clear_result();
    message->clear_more();
    message->set_damaged(why);
    return Next::kMessage;
  }

  // Of tasks from next_ up to `end`, all of which have ended. One without a row of its own was
  // cancelled before it was granted.
  Result<void> read_rows(TaskIndex end) {
    const TaskIndex until =
        source_->all_ended ? std::min<TaskIndex>(end, next_ + static_cast<TaskIndex>(kRows)) : end;
    Result<std::vector<EndedRow>> rows = source_->reader.read(source_->job, next_, until, kRows);
    if (!rows) return rows.failure();
    for (EndedRow& row : *rows) {
      add_cancelled(row.task.task);
      ++next_;
      if (wanted(row)) rows_.push_back(std::move(row));
    }
    if (rows->size() < kRows) add_cancelled(until);
    return {};
  }

  // What is damaged is told to everybody.
  bool wanted(const EndedRow& row) const {
    if (row.result && !row.result->damaged.empty()) return true;
    return row.result ? !source_->only_failed : source_->all_ended;
  }

  // Up to that task, where they are asked for.
  void add_cancelled(TaskIndex below) {
    if (!source_->all_ended) {
      next_ = std::max(next_, below);
      return;
    }
    TaskRecord task;
    task.state = TaskState::kCancelled;
    for (; next_ < below; ++next_) {
      task.task = next_;
      rows_.push_back({task, std::nullopt});
    }
  }

  Queue<std::function<void()>>* const lookups_;
  // Set before the stream listens to its feed, and used under the stream's lock after that.
  std::optional<WantedResults> source_;
  TaskIndex next_ = 0;
  std::deque<EndedRow> rows_;
  std::optional<UniqueFd> file_;  // of row_, which is on its way
  ResultRow row_;
  uint64_t file_offset_ = 0;
};

// The place of a task that its user names.
Result<TaskIndex> place_of(const ArrayJobSpec& array, const std::optional<ArraySpec>& indices,
                           uint64_t called) {
  if (!indices) {
    return static_cast<TaskIndex>(std::min<uint64_t>(called, array.tasks));  // behind the last
  }
  const std::optional<TaskIndex> task = indices->task(called);
  if (task) return *task;
  return Failure{ErrorKind::kInvalid,
                 str_cat("no task is called ", called, ": they are ", array.indices)};
}

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
    const ArrayJobSpec& array = *state.status(*id)->spec.array;
    std::optional<ArraySpec> indices;
    if (Result<ArraySpec> parsed = ArraySpec::parse(array.indices); parsed) indices = *parsed;
    TaskIndex first = 0;
    if (request.has_first_task()) {
      const Result<TaskIndex> place = place_of(array, indices, request.first_task());
      if (!place) return stream->refuse(to_status(place.failure()));
      first = request.behind_first() ? *place + 1 : *place;
    }
    Result<ResultReader> reader = ResultReader::open(core_->state_folder());
    if (!reader) return stream->refuse(to_status(reader.failure()));
    const std::shared_ptr<JobFeed> feed = core_->feed(*id);
    stream->attach({std::move(*reader), core_->state_folder(), feed, state.record(*id)->number,
                    std::move(indices), request.inputs() ? core_->inputs_of(*id) : std::nullopt,
                    InputReader(core_->state_folder()), request.follow(), request.all_ended(),
                    request.only_failed()},
                   first);
    // Listening first, so that nothing that comes in between is missed.
    feed->listen(stream);
    stream->wake();
  });
  if (!posted) stream->refuse(closing());
  return stream.get();
}

}  // namespace longhaul
