#include "agent/client/coordinator_proto.h"
#include "control/worker/agent/agent_server.h"

namespace longhaul {

AgentServer::Reactor* AgentServer::Report(Context* context, const v1::Progress* request,
                                          v1::ReportReply* reply) {
  return on_loop(context, [this, request, reply](Reactor* reactor, const std::string& token) {
    v1::Progress progress = *request;
    cap(&progress);
    *reply = backend_.report(token, std::move(progress));
    reactor->Finish(grpc::Status::OK);
  });
}

}  // namespace longhaul
