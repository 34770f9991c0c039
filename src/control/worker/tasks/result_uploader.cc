#include "control/worker/tasks/result_uploader.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "control/convert/compression.h"
#include "longhaul/base/strings.h"
#include "rpc/channel.h"
#include "rpc/grpc_error.h"
#include "wire/checksum.h"

namespace longhaul {
namespace {

constexpr milliseconds kRetry{500};

// What another try can mend: the master is away or restarts (UNAVAILABLE, CANCELLED), its disk is
// full (UNAVAILABLE), another stream took this one's place (ABORTED), bytes were damaged on the way
// or on its disk (DATA_LOSS). A lease that counts no more, or a result above the cap, stays so.
bool worth_another_try(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::DATA_LOSS:
    case grpc::StatusCode::INTERNAL:
      return true;
    default:
      return false;
  }
}

}  // namespace

ResultUploader::ResultUploader(EventLoop& loop, std::string master_address,
                               const Credentials& credentials)
    : loop_(loop),
      master_(std::move(master_address)),
      stub_(v1::WorkerService::NewStub(make_channel(master_, credentials))),
      thread_("lh-results", [this] { run(); }) {}

ResultUploader::~ResultUploader() {
  *alive_ = false;
  // Cancelled before the join: the thread may be waiting for a master that is away.
  queue_.close();
  for (const auto& [epoch, upload] : uploads_) cancel(epoch);
  thread_.join();
}

void ResultUploader::upload(v1::ResultHeader header, std::unique_ptr<ResultSource> source,
                            Done done) {
  const uint64_t epoch = header.lease().epoch();
  auto upload = std::make_shared<Upload>();
  upload->header = std::move(header);
  upload->source = std::move(source);
  upload->done = std::move(done);
  uploads_[epoch] = upload;
  queue_.push(std::move(upload));
}

void ResultUploader::try_again() {
  MutexLock lock(mutex_);
  for (const auto& [epoch, upload] : uploads_) {
    upload->hurry = true;
    if (upload->context != nullptr) upload->context->TryCancel();
  }
  changed_.notify_all();
}

void ResultUploader::cancel(uint64_t epoch) {
  const auto found = uploads_.find(epoch);
  if (found == uploads_.end()) return;
  MutexLock lock(mutex_);
  found->second->cancelled = true;
  if (found->second->context != nullptr) found->second->context->TryCancel();
  changed_.notify_all();
}

void ResultUploader::run() {
  while (std::optional<std::shared_ptr<Upload>> next = queue_.pop()) {
    const std::shared_ptr<Upload> upload = std::move(*next);
    loop_.post([this, alive = alive_, upload, result = bring(*upload)] {
      if (!*alive) return;
      uploads_.erase(upload->header.lease().epoch());
      upload->source.reset();  // its folder goes in done()
      upload->done(result);
    });
  }
}

Result<ResultUploader::Stored> ResultUploader::bring(Upload& upload) {
  std::string last_complaint;
  while (true) {
    grpc::ClientContext context;
    {
      MutexLock lock(mutex_);
      if (upload.cancelled) return Failure{ErrorKind::kPeerLost, "cancelled"};
      // Checked and set under one lock: a cancel() comes before it or finds the context.
      upload.context = &context;
    }
    bool again = false;
    Result<Stored> stored = try_once(upload, &context, &again);
    {
      MutexLock lock(mutex_);
      upload.context = nullptr;
    }
    if (stored || !again) return stored;
    if (stored.failure().message != last_complaint) {
      last_complaint = stored.failure().message;
      log(LogLevel::kWarning, "worker", "job ", upload.header.job_id(), " task ",
          upload.header.lease().task(), ": its result waits: ", last_complaint);
    }
    if (!wait_before_next_try(upload)) return Failure{ErrorKind::kPeerLost, "cancelled"};
  }
}

bool ResultUploader::wait_before_next_try(Upload& upload) {
  const Instant until = std::chrono::steady_clock::now() + kRetry;
  MutexLock lock(mutex_);
  while (!upload.cancelled && !upload.hurry && std::chrono::steady_clock::now() < until) {
    changed_.wait_until(mutex_, until);
  }
  upload.hurry = false;
  return !upload.cancelled;
}

Result<ResultUploader::Stored> ResultUploader::try_once(Upload& upload,
                                                        grpc::ClientContext* context, bool* again) {
  // The header names the lease, and the answer says how many bytes the master has of earlier tries.
  // Compression gives the same bytes each time, so the result is compressed from its start, for the
  // checksum is of all of it, and what the master has is left out. `stored` says that all is on its
  // disk.
  const auto stream = stub_->PutResult(context);
  const auto over = [&]() -> Result<Stored> {
    const grpc::Status status = stream->Finish();
    *again = worth_another_try(status.error_code());
    if (status.ok()) return Failure{ErrorKind::kInternal, "the master took half of a result"};
    return to_failure(status, "master at " + master_);
  };
  v1::PutResultRequest request;
  *request.mutable_header() = upload.header;
  v1::PutResultReply reply;
  if (!stream->Write(request) || !stream->Read(&reply)) return over();

  const uint64_t size = upload.source->size();
  Checksum checksum;
  uint64_t sent = 0;
  for (uint64_t at = 0; at < size;) {
    const std::string bytes = upload.source->read(at, std::min(kPieceBytes, size - at));
    if (bytes.empty()) {
      const std::string trouble = upload.source->trouble();
      *again = !trouble.empty();  // it is there, and cannot be read just now
      context->TryCancel();
      (void)stream->Finish();
      if (*again) return Failure{ErrorKind::kExhausted, trouble};
      return Failure{ErrorKind::kUnavailable,
                     str_cat("only ", at, " of ", size,
                             " bytes of its result could be kept: is the worker's disk full?")};
    }
    at += bytes.size();
    const std::string frame = compress_piece(bytes);
    checksum.update(frame);
    const uint64_t known = reply.have() - std::min(reply.have(), sent);
    sent += frame.size();
    if (known >= frame.size()) continue;
    request.set_data(frame.substr(known));
    if (!stream->Write(request)) return over();
  }
  request.mutable_end()->set_bytes(sent);
  request.mutable_end()->set_checksum(checksum.value());
  request.mutable_end()->set_result_bytes(size);
  if (!stream->Write(request) || !stream->Read(&reply) || !reply.stored()) return over();
  // How the call ends does not matter any more: the master has said that it is stored.
  (void)stream->Finish();
  return Stored{sent, size};
}

}  // namespace longhaul
