#include "control/worker/session/master_stream.h"

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <utility>

#include "longhaul/base/strings.h"
#include "longhaul/v1/worker_service.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/grpc_error.h"

namespace longhaul {

// Owned by the MasterStream, and by itself until gRPC has called OnDone, because gRPC has a plain
// pointer to it. gRPC calls OnDone when no operation is open. A hold counts as one, so that the
// loop's thread may still start a write; it is given up when reading has ended, which comes with
// every end of the stream.
// Threads: gRPC's threads call the On... methods, which only post. All other state belongs to the
// loop's thread, but for incoming_, which belongs to the read that is open.
class MasterStream::Reactor final
    : public grpc::ClientBidiReactor<v1::WorkerMessage, v1::MasterMessage>,
      public std::enable_shared_from_this<Reactor> {
 public:
  Reactor(std::shared_ptr<EventLoop> loop, const std::string& address,
          const Credentials& credentials, Listener listener)
      : loop_(std::move(loop)),
        address_(address),
        listener_(std::move(listener)),
        // A channel for each try: a new one dials at once, without the back-off of the one that
        // failed.
        stub_(v1::WorkerService::NewStub(make_channel(address, credentials))) {}

  void start() {
    self_ = shared_from_this();
    stub_->async()->Session(&context_, this);
    AddHold();
    StartRead(&incoming_);
    StartCall();
  }

  void send(v1::WorkerMessage message) {
    if (read_ended_ || finishing_) return;
    outgoing_.push_back(std::move(message));
    write_next();
  }

  void finish() {
    // What was given before is still sent; then the master reads the end of our side.
    finishing_ = true;
    write_next();
  }

  void cancel() { context_.TryCancel(); }

  void detach() {
    // On the loop's thread, as all uses of the listener: none of them is under way.
    listener_ = {};
    cancel();
  }

  // From gRPC's threads.
  void OnReadDone(bool ok) override {
    if (!ok) {
      // The loop has ended, so nobody starts a write any more.
      if (!post([this] { end_of_reading(); })) RemoveHold();
      return;
    }
    auto message = std::make_shared<v1::MasterMessage>(std::move(incoming_));
    incoming_.Clear();
    post([this, message] {
      if (listener_.message) listener_.message(std::move(*message));
    });
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    post([this, ok] {
      // Only now: gRPC reads from the message until the write is done.
      writing_ = false;
      outgoing_.pop_front();
      if (ok) write_next();
    });
  }

  void OnDone(const grpc::Status& status) override {
    // Keeps this object alive to the end of this method.
    const std::shared_ptr<Reactor> last = std::move(self_);
    post([this, status] {
      if (!listener_.closed) return;
      const std::string whom = str_cat("master at ", address_);
      listener_.closed(status.ok() ? Failure{ErrorKind::kUnavailable, whom + ": ended the session"}
                                   : to_failure(status, whom));
    });
  }

 private:
  // An ended loop takes no task any more; then nobody listens either.
  template <typename Task>
  bool post(Task task) {
    return loop_->post([keep = shared_from_this(), task = std::move(task)] { task(); });
  }

  void write_next() {
    if (writing_ || read_ended_) return;
    if (!outgoing_.empty()) {
      writing_ = true;
      StartWrite(&outgoing_.front());
    } else if (finishing_ && !writes_done_) {
      writes_done_ = true;
      StartWritesDone();
    }
  }

  void end_of_reading() {
    read_ended_ = true;
    RemoveHold();
  }

  const std::shared_ptr<EventLoop> loop_;
  const std::string address_;
  Listener listener_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  v1::MasterMessage incoming_;
  std::deque<v1::WorkerMessage> outgoing_;  // the first one is being written while writing_
  bool writing_ = false;
  bool read_ended_ = false;
  bool finishing_ = false;
  bool writes_done_ = false;
  std::shared_ptr<Reactor> self_;
};

MasterStream::MasterStream(std::shared_ptr<EventLoop> loop, const std::string& address,
                           const Credentials& credentials, Listener listener)
    : reactor_(
          std::make_shared<Reactor>(std::move(loop), address, credentials, std::move(listener))) {
  reactor_->start();
}

MasterStream::~MasterStream() {
  reactor_->detach();
}

void MasterStream::send(v1::WorkerMessage message) {
  reactor_->send(std::move(message));
}
void MasterStream::finish() {
  reactor_->finish();
}
void MasterStream::cancel() {
  reactor_->cancel();
}

}  // namespace longhaul
