#include "control/client/job_watch.h"

#include <algorithm>
#include <deque>
#include <map>
#include <tuple>
#include <utility>

#include "base/thread.h"
#include "control/convert/job_proto.h"
#include "longhaul/base/mutex.h"

namespace longhaul {
namespace {

// When the mailbox holds so much the reading thread waits. Then gRPC's flow control makes the
// master wait, so a slow reader costs neither side memory.
constexpr size_t kMailboxBytes = size_t{4} << 20;

// What an event takes, roughly.
size_t weight(const WatchEvent& event) {
  constexpr size_t kAny = 64;
  constexpr size_t kRank = 400;
  if (const auto* output = std::get_if<OutputPiece>(&event)) return kAny + output->data.size();
  const auto* status = std::get_if<JobStatus>(&event);
  return status == nullptr ? kAny : kAny + kRank * status->ranks.size();
}

OutputPiece output_from(const v1::Output& proto) {
  return {static_cast<Rank>(proto.rank()),
          proto.stream() == v1::OUTPUT_STREAM_STDERR,
          proto.offset(),
          proto.data(),
          proto.generation(),
          proto.has_task() ? std::optional<uint64_t>(proto.task()) : std::nullopt};
}

// Output that a watch has had. A stream that is begun again after an absence of the master starts
// with all that the master keeps, so what is known is left out here.
class Received {
 public:
  // What of this piece is new; false: nothing.
  bool cut_known(OutputPiece* piece) {
    uint64_t& next = next_[{piece->generation, piece->rank, piece->is_stderr}];
    const uint64_t end = piece->offset + piece->data.size();
    if (end <= next) return false;
    if (piece->offset < next) {
      piece->data.erase(0, next - piece->offset);
      piece->offset = next;
    }
    next = end;
    bytes_ += piece->data.size();
    return true;
  }

  // The master says how much of the output before its first piece is gone. Of that, the bytes that
  // came on an earlier stream, or were counted as missed then, are not missed now.
  uint64_t missed(uint64_t dropped) {
    const uint64_t known = std::min(dropped, bytes_ + missed_);
    missed_ += dropped - known;
    return dropped - known;
  }

 private:
  std::map<std::tuple<Generation, Rank, bool>, uint64_t> next_;
  uint64_t bytes_ = 0;
  uint64_t missed_ = 0;
};

class GrpcJobWatch final : public JobWatch {
 public:
  // The connection is shared with the client and lives until the last of its watches has ended.
  GrpcJobWatch(std::shared_ptr<Connection> connection, v1::WatchJobRequest request,
               std::shared_ptr<JobLives> lives)
      : connection_(std::move(connection)), request_(std::move(request)), lives_(std::move(lives)) {
    // Started here and not before: it uses all other members.
    reader_ = Thread("job-watch", [this] { read_all(); });
  }

  ~GrpcJobWatch() override {
    GrpcJobWatch::cancel();
    reader_.join();
  }

  std::optional<WatchEvent> next() override { return take(std::nullopt); }
  std::optional<WatchEvent> next_until(Instant deadline) override { return take(deadline); }

  bool ended() const override {
    MutexLock lock(mutex_);
    return closed_ && events_.empty();
  }

  void cancel() override {
    MutexLock lock(mutex_);
    cancelled_ = true;
    if (context_ != nullptr) context_->TryCancel();
    changed_.notify_all();
  }

 private:
  void read_all() {
    const Result<void> read = connection_->keep_up(
        [this] { return read_once(); },
        [this](const std::optional<Failure>& lost) { push(LinkChanged{lost}, /*last=*/false); },
        [this] { return wanted(); });
    WatchEnded ended;
    if (!read) ended.failure = read.failure();
    push(std::move(ended), /*last=*/true);
  }

  Connection::Try read_once() {
    grpc::ClientContext context;
    set_context(&context);
    const auto stream = connection_->stub().WatchJob(&context, request_);
    bool heard = false;
    for (v1::WatchJobEvent event; stream->Read(&event) && deliver(event);) heard = true;
    // Else Finish() would wait for the rest of the stream.
    if (!wanted()) context.TryCancel();
    const grpc::Status status = stream->Finish();
    set_context(nullptr);
    return {status, heard};
  }

  void set_context(grpc::ClientContext* context) {
    MutexLock lock(mutex_);
    context_ = context;
    // cancel() may have come when no stream was open.
    if (cancelled_ && context_ != nullptr) context_->TryCancel();
  }

  bool wanted() const {
    MutexLock lock(mutex_);
    return !cancelled_;
  }

  bool deliver(const v1::WatchJobEvent& proto) {
    switch (proto.event_case()) {
      case v1::WatchJobEvent::kStatus:
        // Asked again after an absence, "last" may be another job by then. So may this id, when the
        // state was put back from a copy: the life tells them apart.
        request_.set_job(proto.status().job_id());
        request_.set_life(proto.status().life());
        lives_->learn(proto.status().job_id(), proto.status().life());
        return push(from_proto(proto.status()), false);
      case v1::WatchJobEvent::kOutput: {
        OutputPiece piece = output_from(proto.output());
        return !received_.cut_known(&piece) || push(std::move(piece), false);
      }
      case v1::WatchJobEvent::kOutputDroppedBytes: {
        const uint64_t missed = received_.missed(proto.output_dropped_bytes());
        return missed == 0 || push(OutputDropped{missed}, false);
      }
      case v1::WatchJobEvent::EVENT_NOT_SET:
        return true;  // a newer master's event
    }
    return true;
  }

  // Returns false when the watch was cancelled. The last event always gets in, also beyond the
  // bound: whoever waits in take() is woken by it.
  bool push(WatchEvent event, bool last) {
    MutexLock lock(mutex_);
    while (bytes_ > kMailboxBytes && !cancelled_ && !last) changed_.wait(mutex_);
    if (cancelled_ && !last) return false;
    bytes_ += weight(event);
    events_.push_back(std::move(event));
    closed_ = last;
    changed_.notify_all();
    return true;
  }

  std::optional<WatchEvent> take(std::optional<Instant> deadline) {
    MutexLock lock(mutex_);
    while (events_.empty() && !closed_) {
      if (!deadline) {
        changed_.wait(mutex_);
      } else if (!changed_.wait_until(mutex_, *deadline)) {
        break;
      }
    }
    if (events_.empty()) return std::nullopt;
    WatchEvent event = std::move(events_.front());
    events_.pop_front();
    bytes_ -= weight(event);
    changed_.notify_all();
    return event;
  }

  const std::shared_ptr<Connection> connection_;
  v1::WatchJobRequest request_;  // the reader's, as is the next one
  Received received_;
  const std::shared_ptr<JobLives> lives_;

  mutable Mutex mutex_;
  CondVar changed_;
  grpc::ClientContext* context_ LONGHAUL_GUARDED_BY(mutex_) = nullptr;  // of the stream now open
  std::deque<WatchEvent> events_ LONGHAUL_GUARDED_BY(mutex_);
  size_t bytes_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool closed_ LONGHAUL_GUARDED_BY(mutex_) = false;

  Thread reader_;
};

}  // namespace

std::unique_ptr<JobWatch> start_watch(std::shared_ptr<Connection> connection,
                                      const v1::WatchJobRequest& request,
                                      std::shared_ptr<JobLives> lives) {
  return std::make_unique<GrpcJobWatch>(std::move(connection), request, std::move(lives));
}

}  // namespace longhaul
