#include "control/worker/agent_server.h"

namespace longhaul {

AgentServer::Reactor* AgentServer::Report(Context* context, const v1::Progress* request,
                                          v1::ReportReply* reply) {
  return on_loop(context, [this, request, reply](Reactor* reactor, const std::string& token) {
    *reply = backend_.report(token, *request);
    reactor->Finish(grpc::Status::OK);
  });
}

}  // namespace longhaul
