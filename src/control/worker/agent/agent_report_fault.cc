#include "agent/client/coordinator_proto.h"
#include "control/worker/agent/agent_server.h"

namespace longhaul {

AgentServer::Reactor* AgentServer::ReportFault(Context* context, const v1::Fault* request,
                                               v1::FaultReply* /*reply*/) {
  return on_loop(context, [this, request](Reactor* reactor, const std::string& token) {
    v1::Fault fault = *request;
    cap(&fault);
    backend_.report_fault(token, std::move(fault));
    reactor->Finish(grpc::Status::OK);
  });
}

}  // namespace longhaul
