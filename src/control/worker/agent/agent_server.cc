#include "control/worker/agent/agent_server.h"

#include <grpcpp/server_builder.h>

#include "longhaul/base/strings.h"
#include "rpc/server_limits.h"

namespace longhaul {
namespace {

// Calls at once on one connection: each thread of a rank, and of its data loaders, may wait in the
// store.
constexpr int kCallsOfARank = 200;
// How often memory that a flood of calls has left free is given back to the host.
constexpr milliseconds kBetweenTrims{30'000};
constexpr size_t kMemory = size_t{512} << 20;

std::string token_of(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto token = metadata.find("longhaul-token");
  return token == metadata.end() ? "" : std::string(token->second.data(), token->second.size());
}

}  // namespace

AgentServer::~AgentServer() {
  // No new connections first; Wait() returns when every call has been answered.
  acceptor_.reset();
  if (!server_) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

Result<void> AgentServer::listen(const std::string& socket_path) {
  Result<UniqueFd> listener = listen_unix(socket_path);
  if (!listener) return listener.failure();
  grpc::ServerBuilder builder;
  Acceptor::Server connections = Acceptor::add_to(builder, plain_text());
  set_limits(builder, {.streams_per_connection = kCallsOfARank, .memory_bytes = kMemory});
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  if (!server_) {
    return Failure{ErrorKind::kUnavailable,
                   str_cat("agent socket ", socket_path, ": cannot serve")};
  }
  acceptor_ = std::make_unique<Acceptor>("worker", std::move(*listener), std::move(connections));
  loop_.post([this] { trim_now_and_then(); });
  return {};
}

void AgentServer::trim_now_and_then() {
  give_free_memory_back();
  loop_.after(kBetweenTrims, [this] { trim_now_and_then(); });
}

AgentServer::Reactor* AgentServer::on_loop(
    Context* context, std::function<void(Reactor*, const std::string&)> handle) {
  Reactor* reactor = context->DefaultReactor();
  const bool taken =
      loop_.post([this, reactor, token = token_of(*context), handle = std::move(handle)] {
        if (backend_.knows(token)) {
          handle(reactor, token);
        } else {
          reactor->Finish({grpc::StatusCode::UNAUTHENTICATED,
                           "this token names no rank that runs here (LONGHAUL_AGENT_TOKEN)"});
        }
      });
  if (!taken) reactor->Finish({grpc::StatusCode::UNAVAILABLE, "the worker is ending"});
  return reactor;
}

}  // namespace longhaul
