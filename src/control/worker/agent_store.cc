#include "control/worker/agent_server.h"

namespace longhaul {

AgentServer::Reactor* AgentServer::Store(Context* context, const v1::StoreRequest* request,
                                         v1::StoreReply* reply) {
  return on_loop(context, [this, request, reply](Reactor* reactor, const std::string& token) {
    backend_.store(token, *request, [reactor, reply](v1::StoreReply answer) {
      *reply = std::move(answer);
      reactor->Finish(grpc::Status::OK);
    });
  });
}

}  // namespace longhaul
