#include "control/worker/agent_server.h"

namespace longhaul {

AgentServer::Reactor* AgentServer::ReportFault(Context* context, const v1::Fault* request,
                                               v1::FaultReply* /*reply*/) {
  return on_loop(context, [this, request](Reactor* reactor, const std::string& token) {
    backend_.report_fault(token, *request);
    reactor->Finish(grpc::Status::OK);
  });
}

}  // namespace longhaul
