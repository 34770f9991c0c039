// A master that a test plays by hand: it takes workers, keeps all that they say, answers
// heartbeats, acknowledges output and serves a small rendezvous store, and sends what the test
// tells it to.
//
// Thread safety: any thread.
#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"
#include "longhaul/v1/worker_service.grpc.pb.h"

namespace longhaul::testing {

class FakeMaster final : private v1::WorkerService::Service {
 public:
  // Listens on a free port of 127.0.0.1.
  FakeMaster() { start(0); }
  ~FakeMaster() override { stop(); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // The next registrations get this answer.
  void answer_register(const v1::MasterMessage& answer) {
    MutexLock lock(mutex_);
    register_answer_ = answer;
  }
  void acknowledge_output(bool on) {
    MutexLock lock(mutex_);
    acknowledges_ = on;
    if (on && stream_ != nullptr && output_bytes_ > 0) acknowledge();
  }

  // Off: what the store is asked is done, but nobody hears of it.
  void answer_store_calls(bool on) {
    MutexLock lock(mutex_);
    answers_store_calls_ = on;
  }

  void answer_heartbeats(bool on) {
    MutexLock lock(mutex_);
    answers_heartbeats_ = on;
  }

  void send(const v1::MasterMessage& message) {
    MutexLock lock(mutex_);
    if (stream_ != nullptr) stream_->Write(message);
  }

  // Breaks the session as a killed master would; the worker may come back.
  void drop_session() {
    MutexLock lock(mutex_);
    if (context_ != nullptr) context_->TryCancel();
  }

  // Nobody listens any more, or again on the same port.
  void stop() {
    drop_session();
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  void start_again() { start(port_); }

  // Waits until the messages received so far satisfy `condition`; false after 20 s.
  using Messages = std::vector<v1::WorkerMessage>;
  bool wait(const std::function<bool(const Messages&)>& condition) {
    const Instant deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    MutexLock lock(mutex_);
    while (!condition(messages_)) {
      if (!changed_.wait_until(mutex_, deadline)) return condition(messages_);
    }
    return true;
  }
  Messages messages() {
    MutexLock lock(mutex_);
    return messages_;
  }

 private:
  using Stream = grpc::ServerReaderWriter<v1::MasterMessage, v1::WorkerMessage>;

  void start(int port) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::InsecureServerCredentials(),
                             &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }

  grpc::Status Session(grpc::ServerContext* context, Stream* stream) override {
    {
      MutexLock lock(mutex_);
      context_ = context;
      stream_ = stream;
      output_bytes_ = 0;
    }
    v1::WorkerMessage message;
    while (stream->Read(&message)) {
      MutexLock lock(mutex_);
      react(message);
      messages_.push_back(std::move(message));
      changed_.notify_all();
    }
    MutexLock lock(mutex_);
    if (stream_ == stream) {
      stream_ = nullptr;
      context_ = nullptr;
    }
    return grpc::Status::OK;
  }

  void react(const v1::WorkerMessage& message) LONGHAUL_REQUIRES(mutex_) {
    if (message.has_register_()) {
      stream_->Write(registered(message.register_()));
    } else if (message.has_heartbeat()) {
      if (!answers_heartbeats_) return;
      v1::MasterMessage answer;
      *answer.mutable_heartbeat() = message.heartbeat();
      stream_->Write(answer);
    } else if (message.has_rank_output()) {
      launch_ = message.rank_output();
      output_bytes_ += message.rank_output().output().data().size();
      if (acknowledges_) acknowledge();
    } else if (message.has_store_call()) {
      serve(message.store_call());
    }
  }

  v1::MasterMessage registered(const v1::Register& request) LONGHAUL_REQUIRES(mutex_) {
    v1::MasterMessage answer = register_answer_;
    if (answer.has_refused()) return answer;
    v1::Registered& registered = *answer.mutable_registered();
    if (registered.worker_id().empty()) registered.set_worker_id(request.worker_id());
    registered.set_heartbeat_interval_ms(50);
    registered.set_lease_ms(5'000);
    return answer;
  }

  void acknowledge() LONGHAUL_REQUIRES(mutex_) {
    v1::MasterMessage answer;
    v1::OutputAck& ack = *answer.mutable_output_ack();
    ack.set_job_id(launch_.job_id());
    ack.set_generation(launch_.generation());
    ack.set_life(launch_.life());
    ack.set_bytes(output_bytes_);
    stream_->Write(answer);
  }

  // SET, GET (answered when the key is there), ADD, CHECK, DELETE, COMPARE_SET of one key. A call
  // that was answered before, by its id, is answered as before.
  void serve(const v1::StoreCall& call) LONGHAUL_REQUIRES(mutex_) {
    const v1::StoreRequest& request = call.request();
    const std::string& key = request.keys(0);
    v1::StoreReply reply;
    if (const auto before = answered_.find(call.call_id()); before != answered_.end()) {
      return answer(call.call_id(), before->second);
    }
    switch (request.operation()) {
      case v1::StoreRequest::SET:
        store_[key] = request.values(0);
        break;
      case v1::StoreRequest::ADD:
        reply.set_amount(request.amount() + (store_.count(key) ? std::stoll(store_[key]) : 0));
        store_[key] = std::to_string(reply.amount());
        break;
      case v1::StoreRequest::CHECK:
        reply.set_amount(store_.count(key) != 0 ? 1 : 0);
        break;
      case v1::StoreRequest::DELETE:
        reply.set_amount(static_cast<int64_t>(store_.erase(key)));
        break;
      case v1::StoreRequest::COMPARE_SET:
        if (store_[key] == request.values(0)) store_[key] = request.values(1);
        reply.set_value(store_[key]);
        break;
      default:
        waiting_.push_back(call);
    }
    if (request.operation() != v1::StoreRequest::GET &&
        request.operation() != v1::StoreRequest::WAIT) {
      answer(call.call_id(), reply);
    }
    answer_waiting();
  }

  void answer_waiting() LONGHAUL_REQUIRES(mutex_) {
    std::vector<v1::StoreCall> still_waiting;
    for (const v1::StoreCall& call : waiting_) {
      const auto found = store_.find(call.request().keys(0));
      if (found == store_.end()) {
        still_waiting.push_back(call);
        continue;
      }
      v1::StoreReply reply;
      reply.set_value(found->second);
      answer(call.call_id(), reply);
    }
    waiting_ = still_waiting;
  }

  void answer(uint64_t call_id, const v1::StoreReply& reply) LONGHAUL_REQUIRES(mutex_) {
    answered_[call_id] = reply;
    if (!answers_store_calls_) return;
    v1::MasterMessage message;
    message.mutable_store_answer()->set_call_id(call_id);
    *message.mutable_store_answer()->mutable_reply() = reply;
    stream_->Write(message);
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  Mutex mutex_;
  CondVar changed_;
  grpc::ServerContext* context_ LONGHAUL_GUARDED_BY(mutex_) = nullptr;
  Stream* stream_ LONGHAUL_GUARDED_BY(mutex_) = nullptr;
  v1::MasterMessage register_answer_ LONGHAUL_GUARDED_BY(mutex_);
  bool answers_heartbeats_ LONGHAUL_GUARDED_BY(mutex_) = true;
  bool answers_store_calls_ LONGHAUL_GUARDED_BY(mutex_) = true;
  bool acknowledges_ LONGHAUL_GUARDED_BY(mutex_) = true;
  uint64_t output_bytes_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  v1::RankOutput launch_ LONGHAUL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> store_ LONGHAUL_GUARDED_BY(mutex_);
  std::map<uint64_t, v1::StoreReply> answered_ LONGHAUL_GUARDED_BY(mutex_);
  std::vector<v1::StoreCall> waiting_ LONGHAUL_GUARDED_BY(mutex_);
  Messages messages_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace longhaul::testing
