#include <charconv>

#include "control/worker/agent/agent_server.h"

namespace longhaul {
namespace {

// The number that the rank has given this call; 0 for one that may be done twice (agent_client.cc).
uint64_t number_of(const grpc::CallbackServerContext& context) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("longhaul-call");
  uint64_t number = 0;
  if (found != metadata.end()) {
    const grpc::string_ref text = found->second;
    std::from_chars(text.data(), text.data() + text.size(), number);
  }
  return number;
}

}  // namespace

AgentServer::Reactor* AgentServer::Store(Context* context, const v1::StoreRequest* request,
                                         v1::StoreReply* reply) {
  const uint64_t number = number_of(*context);
  return on_loop(context,
                 [this, number, request, reply](Reactor* reactor, const std::string& token) {
                   backend_.store(token, number, *request, [reactor, reply](v1::StoreReply answer) {
                     *reply = std::move(answer);
                     reactor->Finish(grpc::Status::OK);
                   });
                 });
}

}  // namespace longhaul
