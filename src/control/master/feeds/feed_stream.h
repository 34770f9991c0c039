// A stream to a client that follows one job: it is woken when the job's feed has something new,
// writes one message at a time, and ends when there is nothing left to come.
//
// Threads: next() is called on gRPC's threads and on whatever thread wakes it, one at a time.
// Lock order: next() runs with the stream's lock held and takes that of what it reads (a JobFeed,
// the EventJournal). These wake their listeners without a lock, so no thread goes the other way.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>

#include "control/master/feeds/job_feed.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

template <typename Message>
class FeedStream : public grpc::ServerWriteReactor<Message>, public FeedListener {
 public:
  // gRPC has a plain pointer until it calls OnDone(); until then the stream holds itself. What is
  // started before the handler has returned the stream to gRPC (the owner thread may be faster)
  // gRPC keeps until then.
  void hold(std::shared_ptr<FeedStream> self) { self_ = std::move(self); }

  void refuse(const grpc::Status& status) {
    MutexLock lock(mutex_);
    finish(status);
  }

  void wake() override { proceed(); }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(mutex_);
      writing_ = false;
      if (!ok) finish({grpc::StatusCode::CANCELLED, "the reader is gone"});
    }
    proceed();
  }

  void OnCancel() override {
    MutexLock lock(mutex_);
    // A write that is open must end first; OnWriteDone() finishes then.
    cancelled_ = true;
    if (!writing_) finish({grpc::StatusCode::CANCELLED, "the reader is gone"});
  }

  void OnDone() override { self_.reset(); }

 protected:
  enum class Next { kMessage, kNothingYet, kEnd };
  // Fills `message`; with kEnd `status` is what the stream ends with.
  virtual Next next(Message* message, grpc::Status* status) = 0;

  void proceed() {
    MutexLock lock(mutex_);
    if (writing_ || finished_) return;
    if (cancelled_) {
      finish({grpc::StatusCode::CANCELLED, "the reader is gone"});
      return;
    }
    message_.Clear();
    grpc::Status status;
    switch (next(&message_, &status)) {
      case Next::kMessage:
        writing_ = true;
        this->StartWrite(&message_);
        break;
      case Next::kNothingYet:
        break;
      case Next::kEnd:
        finish(status);
        break;
    }
  }

 private:
  void finish(const grpc::Status& status) LONGHAUL_REQUIRES(mutex_) {
    if (finished_) return;
    finished_ = true;
    this->Finish(status);
  }

  std::shared_ptr<FeedStream> self_;
  Mutex mutex_;
  Message message_ LONGHAUL_GUARDED_BY(mutex_);
  bool writing_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool finished_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool cancelled_ LONGHAUL_GUARDED_BY(mutex_) = false;
};

}  // namespace longhaul
