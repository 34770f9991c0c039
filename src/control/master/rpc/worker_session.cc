#include "control/master/rpc/worker_session.h"

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "control/convert/worker_proto.h"

namespace longhaul {
namespace {

// What may wait to be written to one worker. One that does not read loses its stream at this, and
// is told everything again when it registers anew.
constexpr size_t kMaxQueuedBytes = size_t{64} << 20;

class WorkerSession final : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::MasterMessage>,
                            public SessionSink {
 public:
  // The owner thread hears of a stream with its first message: streams that are opened and reset at
  // once, in a flood, cost it nothing.
  static WorkerSession* start(Core* core, grpc::CallbackServerContext* context) {
    auto session = std::make_shared<WorkerSession>(core, context);
    session->self_ = session;
    session->read();
    return session.get();
  }

  WorkerSession(Core* core, grpc::CallbackServerContext* context)
      : core_(core), context_(context) {}

  // From the owner thread.

  void send(OutgoingMessage message) override {
    const size_t bytes = (*message)->ByteSizeLong();
    MutexLock lock(mutex_);
    if (final_status_) return;
    queued_bytes_ += bytes;
    outgoing_.push_back({std::move(message), bytes});
    if (queued_bytes_ > kMaxQueuedBytes) {
      abandon({grpc::StatusCode::RESOURCE_EXHAUSTED, "the worker does not read its stream"});
    }
    proceed();
  }

  void close(const std::string& reason, bool drain) override {
    MutexLock lock(mutex_);
    const grpc::Status status(grpc::StatusCode::UNAVAILABLE, reason);
    if (drain) {
      if (!final_status_) final_status_ = status;
    } else {
      abandon(status);
    }
    proceed();
  }

  // From gRPC's threads.

  void OnReadDone(bool ok) override {
    if (!ok) {
      MutexLock lock(mutex_);
      if (!final_status_) final_status_ = grpc::Status::OK;
      proceed();
      return;
    }
    heard_ = true;
    const bool posted = core_->post([session = self_](ClusterState& state, Now now) {
      if (session->id_ == 0) session->id_ = session->core_->add_session(session);
      session->handle(state, **session->incoming_, now);
      // The next message is read only now, so a worker that floods waits in its own send window.
      session->read();
    });
    if (!posted) close("the master is shutting down", false);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    writing_ = false;
    if (!outgoing_.empty()) {
      queued_bytes_ -= outgoing_.front().bytes;
      outgoing_.pop_front();
    }
    if (!ok) abandon({grpc::StatusCode::CANCELLED, "the stream broke"});
    proceed();
  }

  void OnCancel() override {
    MutexLock lock(mutex_);
    cancelled_ = true;
    abandon({grpc::StatusCode::CANCELLED, "the stream broke"});
    proceed();
  }

  void OnDone() override {
    // A worker took its leave if it ended its side by itself and the stream was not cancelled. Then
    // its ranks are gone at once; after a broken stream they may run on, and the lease decides.
    bool goodbye = false;
    {
      MutexLock lock(mutex_);
      done_ = true;
      goodbye = !cancelled_ && final_status_ && final_status_->ok();
    }
    if (heard_) {
      core_->post([session = self_, goodbye](ClusterState& state, Now now) {
        // Behind all messages of this stream, since the owner's queue keeps order.
        session->core_->remove_session(session->id_);
        state.session_closed(session->id_, goodbye, now);
      });
    }
    self_.reset();
  }

 private:
  void read() {
    MutexLock lock(mutex_);
    incoming_ = std::make_unique<OnArena<v1::WorkerMessage>>();
    // After Finish() no operation may be started, and the owner thread may come here even later.
    if (!finishing_ && !done_) StartRead(&**incoming_);
  }

  void handle(ClusterState& state, v1::WorkerMessage& message, Now now) {
    switch (message.message_case()) {
      case v1::WorkerMessage::kRegister:
        state.register_worker(id_, from_proto(message.register_()), now);
        return;
      case v1::WorkerMessage::kHeartbeat:
        state.heartbeat(id_, message.heartbeat().sequence(), now);
        return;
      case v1::WorkerMessage::kPrepared:
        state.prepared(id_, from_proto(message.prepared()), now);
        return;
      case v1::WorkerMessage::kRankEvent:
        if (const auto event = from_proto(message.rank_event())) state.rank_event(id_, *event, now);
        return;
      case v1::WorkerMessage::kRankOutput:
        core_->output(state, id_, message.rank_output(), now);
        return;
      case v1::WorkerMessage::kTasksEnded:
        core_->tasks_ended(state, id_, message.mutable_tasks_ended(), now);
        return;
      case v1::WorkerMessage::kInputTaken:
        core_->input_taken(message.input_taken());
        return;
      case v1::WorkerMessage::kStoreCall:
        if (message.store_call().request().operation() == v1::StoreRequest::SHARDS) {
          state.shard_call(id_, shard_call_from(message.store_call()), now);
          return;
        }
        if (const auto call = from_proto(message.store_call())) state.store_call(id_, *call, now);
        return;
      default:
        return;  // of a newer worker
    }
  }

  // Gives up what was to be written. A write that is open must not lose its message; the call is
  // cancelled, so that it fails at once.
  void abandon(const grpc::Status& status) LONGHAUL_REQUIRES(mutex_) {
    if (!final_status_ || final_status_->ok()) final_status_ = status;
    if (finishing_ || done_) return;
    while (outgoing_.size() > (writing_ ? 1U : 0U)) outgoing_.pop_back();
    if (writing_) context_->TryCancel();
  }

  // Starts whatever comes next: a write, or the end.
  void proceed() LONGHAUL_REQUIRES(mutex_) {
    if (writing_ || finishing_ || done_) return;
    if (!outgoing_.empty()) {
      writing_ = true;
      StartWrite(&**outgoing_.front().message);
    } else if (final_status_) {
      finishing_ = true;
      Finish(*final_status_);
    }
  }

  Core* const core_;
  grpc::CallbackServerContext* const context_;
  std::shared_ptr<WorkerSession> self_;  // gRPC holds a plain pointer until OnDone()
  SessionId id_ = 0;                     // the owner thread's; 0: nothing has come yet
  bool heard_ = false;                   // gRPC's threads'
  // gRPC's between read() and OnReadDone(), else the owner thread's.
  std::unique_ptr<OnArena<v1::WorkerMessage>> incoming_;

  struct Outgoing {
    OutgoingMessage message;
    size_t bytes = 0;
  };
  Mutex mutex_;
  std::deque<Outgoing> outgoing_ LONGHAUL_GUARDED_BY(mutex_);  // the front is being written
  size_t queued_bytes_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  bool writing_ LONGHAUL_GUARDED_BY(mutex_) = false;
  // Finish() was called; nothing may be started after that.
  bool finishing_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool done_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool cancelled_ LONGHAUL_GUARDED_BY(mutex_) = false;
  // The stream is to end with this, when what is queued has been written; nothing more is queued.
  std::optional<grpc::Status> final_status_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace

grpc::ServerBidiReactor<v1::WorkerMessage, v1::MasterMessage>* WorkerServiceImpl::Session(
    grpc::CallbackServerContext* context) {
  return WorkerSession::start(core_, context);
}

}  // namespace longhaul
