#include "control/worker/agent/agent_server.h"

namespace longhaul {

AgentServer::Reactor* AgentServer::Leave(Context* context, const v1::LeaveRequest* /*request*/,
                                         v1::LeaveReply* /*reply*/) {
  return on_loop(context, [this](Reactor* reactor, const std::string& token) {
    backend_.leave(token);
    reactor->Finish(grpc::Status::OK);
  });
}

}  // namespace longhaul
