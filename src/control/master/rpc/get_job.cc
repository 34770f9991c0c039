#include "control/convert/worker_proto.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {

grpc::ServerUnaryReactor* JobServiceImpl::GetJob(grpc::CallbackServerContext* context,
                                                 const v1::GetJobRequest* request,
                                                 v1::GetJobReply* reply) {
  return on_owner_thread<Call::kLooksUp>(context, [request, reply](ClusterState& state, Now) {
    const Result<JobId> id = state.find(request->job(), request->life());
    if (!id) return to_status(id.failure());
    *reply->mutable_status() = to_proto(*state.status(*id));
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
