// The agent service on a unix socket: turns a rank's calls into calls on the worker's loop, and its
// answers back. One RPC a file (agent_join.cc, agent_store.cc, ...).
//
// Thread safety: gRPC calls the handlers from its own threads; they only look at the token's
// presence and post to the loop. AgentBackend is called on the loop's thread only.
#pragma once

#include <grpcpp/server.h>
#include <grpcpp/support/server_callback.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "control/worker/host/event_loop.h"
#include "longhaul/base/result.h"
#include "longhaul/v1/agent_service.grpc.pb.h"
#include "rpc/acceptor.h"
#include "rpc/grpc_error.h"

namespace longhaul {

// What the service asks of the worker. `token` is known wherever it is passed.
class AgentBackend {
 public:
  virtual ~AgentBackend() = default;
  virtual bool knows(const std::string& token) const = 0;
  virtual Result<v1::JoinReply> join(const std::string& token, const v1::JoinRequest& request) = 0;
  // `number`: what the rank calls this call by, when it asks again too; 0: it may be done twice.
  // `answer` is called exactly once, now or later, on the loop's thread.
  virtual void store(const std::string& token, uint64_t number, v1::StoreRequest request,
                     std::function<void(v1::StoreReply)> answer) = 0;
  virtual v1::ReportReply report(const std::string& token, v1::Progress progress) = 0;
  virtual void report_fault(const std::string& token, v1::Fault fault) = 0;
  virtual void leave(const std::string& token) = 0;
};

class AgentServer final : private v1::AgentService::CallbackService {
 public:
  AgentServer(EventLoop& loop, AgentBackend& backend) : loop_(loop), backend_(backend) {}
  // Precondition: the loop has ended, so that no call waits for it any more.
  ~AgentServer() override;

  // Errors: kUnavailable (the socket cannot be made).
  Result<void> listen(const std::string& socket_path);

 private:
  using Reactor = grpc::ServerUnaryReactor;
  using Context = grpc::CallbackServerContext;

  Reactor* Join(Context* context, const v1::JoinRequest* request, v1::JoinReply* reply) override;
  Reactor* Store(Context* context, const v1::StoreRequest* request, v1::StoreReply* reply) override;
  Reactor* Report(Context* context, const v1::Progress* request, v1::ReportReply* reply) override;
  Reactor* ReportFault(Context* context, const v1::Fault* request, v1::FaultReply* reply) override;
  Reactor* Leave(Context* context, const v1::LeaveRequest* request, v1::LeaveReply* reply) override;

  // Runs `handle(reactor, token)` on the loop when the call's token is known; refuses it otherwise.
  // The request and reply of a call live until its reactor is finished.
  Reactor* on_loop(Context* context, std::function<void(Reactor*, const std::string&)> handle);

  void trim_now_and_then();

  EventLoop& loop_;
  AgentBackend& backend_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace longhaul
