#include "control/convert/event_proto.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {

grpc::ServerUnaryReactor* JobServiceImpl::ExplainJob(grpc::CallbackServerContext* context,
                                                     const v1::ExplainJobRequest* request,
                                                     v1::ExplainJobReply* reply) {
  return on_owner_thread<Call::kLooksUp>(context, [request, reply](ClusterState& state, Now now) {
    const Result<JobId> id = state.find(request->job());
    if (!id) return to_status(id.failure());
    *reply = to_proto(state.explain(*id, now));
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
