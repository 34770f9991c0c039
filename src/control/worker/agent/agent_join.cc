#include "control/worker/agent/agent_server.h"

namespace longhaul {

AgentServer::Reactor* AgentServer::Join(Context* context, const v1::JoinRequest* request,
                                        v1::JoinReply* reply) {
  return on_loop(context, [this, request, reply](Reactor* reactor, const std::string& token) {
    Result<v1::JoinReply> joined = backend_.join(token, *request);
    if (!joined) return reactor->Finish(to_status(joined.failure()));
    *reply = std::move(*joined);
    reactor->Finish(grpc::Status::OK);
  });
}

}  // namespace longhaul
