#include "control/client/job_watch.h"

#include <deque>

#include "control/common/grpc_error.h"
#include "control/common/job_proto.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"
#include "longhaul/base/thread.h"

namespace longhaul {
namespace {

// What the mailbox holds before the reading thread waits, and gRPC's flow control holds the master.
constexpr size_t kMailboxBytes = size_t{4} << 20;

size_t weight(const WatchEvent& event) {
  const auto* output = std::get_if<OutputPiece>(&event);
  return output == nullptr ? 1 : output->data.size();
}

OutputPiece output_from(const v1::Output& proto) {
  return {static_cast<Rank>(proto.rank()), proto.stream() == v1::OUTPUT_STREAM_STDERR,
          proto.offset(), proto.data(), proto.generation()};
}

class GrpcJobWatch final : public JobWatch {
 public:
  // The stub is shared with the client and lives until the last of its watches has ended.
  GrpcJobWatch(std::shared_ptr<v1::JobService::Stub> stub, const v1::WatchJobRequest& request,
               std::string whom, std::shared_ptr<JobLives> lives)
      : stub_(std::move(stub)),
        request_(request),
        whom_(std::move(whom)),
        lives_(std::move(lives)) {
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
    context_.TryCancel();
    MutexLock lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }

 private:
  void read_all() {
    std::unique_ptr<grpc::ClientReader<v1::WatchJobEvent>> stream =
        stub_->WatchJob(&context_, request_);
    v1::WatchJobEvent proto;
    while (stream->Read(&proto) && deliver(proto)) {
    }
    const grpc::Status status = stream->Finish();
    WatchEnded ended;
    if (!status.ok()) ended.failure = master_failure(status, whom_);
    push(std::move(ended), /*last=*/true);
  }

  bool deliver(const v1::WatchJobEvent& proto) {
    switch (proto.event_case()) {
      case v1::WatchJobEvent::kStatus:
        lives_->learn(proto.status().job_id(), proto.status().life());
        return push(from_proto(proto.status()), false);
      case v1::WatchJobEvent::kOutput:
        return push(output_from(proto.output()), false);
      case v1::WatchJobEvent::kOutputDroppedBytes:
        return push(OutputDropped{proto.output_dropped_bytes()}, false);
      case v1::WatchJobEvent::EVENT_NOT_SET:
        return true;  // a newer master's event
    }
    return true;
  }

  // Returns false when the watch was cancelled; the last event gets in always.
  bool push(WatchEvent event, bool last) {
    MutexLock lock(mutex_);
    while (bytes_ > kMailboxBytes && !cancelled_ && !last) changed_.wait(mutex_);
    if (cancelled_ && !last) {
      context_.TryCancel();
      return false;
    }
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

  const std::shared_ptr<v1::JobService::Stub> stub_;
  const v1::WatchJobRequest request_;
  const std::string whom_;
  const std::shared_ptr<JobLives> lives_;
  grpc::ClientContext context_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<WatchEvent> events_ LONGHAUL_GUARDED_BY(mutex_);
  size_t bytes_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool closed_ LONGHAUL_GUARDED_BY(mutex_) = false;

  Thread reader_;
};

}  // namespace

std::unique_ptr<JobWatch> start_watch(std::shared_ptr<v1::JobService::Stub> stub,
                                      const v1::WatchJobRequest& request, const std::string& whom,
                                      std::shared_ptr<JobLives> lives) {
  return std::make_unique<GrpcJobWatch>(std::move(stub), request, whom, std::move(lives));
}

Failure master_failure(const grpc::Status& status, const std::string& whom) {
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return {ErrorKind::kDeadline, str_cat("no answer from the ", whom, " within the time allowed")};
  }
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) {
    return {to_failure(status, "").kind, status.error_message()};
  }
  // "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect
  // to remote host: Connection refused": only the end tells people something.
  std::string reason = status.error_message();
  constexpr std::string_view kLead = "Failed to connect to remote host: ";
  constexpr std::string_view kLongLead =
      "failed to connect to all addresses; last error: UNKNOWN: ";
  if (const size_t at = reason.rfind(kLead); at != std::string::npos) {
    reason = reason.substr(at + kLead.size());
    if (!reason.empty() && reason[0] == 'C') reason[0] = 'c';
  } else if (reason.starts_with(kLongLead)) {
    reason = reason.substr(kLongLead.size());
  }
  return {ErrorKind::kUnavailable, str_cat("cannot reach the ", whom, ": ", reason)};
}

}  // namespace longhaul
