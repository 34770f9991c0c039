// Brings large results to the master with PutResult, one at a time, on a thread and a connection of
// its own: no heartbeat waits behind one. A result is compressed piece by piece as it goes, each
// time to the same bytes, so a try that broke goes on where the master has it. Tries go on for as
// long as the lease counts; a master that is away or whose disk is full is waited for.
//
// Thread safety: none; lives on one EventLoop's thread, which is also where `done` is called.
// Memory: one piece (kPieceBytes), whatever the result's size.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/queue.h"
#include "base/thread.h"
#include "control/worker/host/event_loop.h"
#include "control/worker/tasks/result_source.h"
#include "longhaul/base/mutex.h"
#include "longhaul/v1/worker_service.grpc.pb.h"
#include "rpc/credentials.h"

namespace longhaul {

class ResultUploader {
 public:
  struct Stored {
    uint64_t stored_bytes = 0;  // at the master
    uint64_t result_bytes = 0;
  };
  // Errors: kPeerLost (cancelled), kStale (the lease counts no more), kUnavailable (this host could
  // not keep all of it), kInvalid and others (it can never be taken; the message says why).
  using Done = std::function<void(const Result<Stored>&)>;

  ResultUploader(EventLoop& loop, std::string master_address, const Credentials& credentials);
  // Breaks off what is under way; nobody hears of it.
  ~ResultUploader();

  void upload(v1::ResultHeader header, std::unique_ptr<ResultSource> source, Done done);
  // Whatever is under way begins another try at once: its connection may be dead without a sign.
  void try_again();
  // By the lease's epoch: done() follows soon, and may still tell of success.
  void cancel(uint64_t epoch);

 private:
  struct Upload {
    v1::ResultHeader header;
    std::unique_ptr<ResultSource> source;
    Done done;
    bool cancelled = false;  // guarded by mutex_
    bool hurry = false;      // guarded by mutex_
    // Through it the loop's thread breaks a call that the uploader's thread waits in.
    grpc::ClientContext* context = nullptr;  // guarded by mutex_; of the try under way
  };

  void run();
  Result<Stored> bring(Upload& upload);
  Result<Stored> try_once(Upload& upload, grpc::ClientContext* context, bool* again);
  bool wait_before_next_try(Upload& upload);

  EventLoop& loop_;
  const std::string master_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::map<uint64_t, std::shared_ptr<Upload>> uploads_;  // the loop's; by epoch
  Queue<std::shared_ptr<Upload>> queue_;
  Mutex mutex_;
  CondVar changed_;
  // Set to false by the destructor, and shared with callbacks that are posted: one that runs later
  // sees that this object is gone.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul
