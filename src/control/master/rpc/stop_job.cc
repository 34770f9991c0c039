#include "control/convert/worker_proto.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {

grpc::ServerUnaryReactor* JobServiceImpl::StopJob(grpc::CallbackServerContext* context,
                                                  const v1::StopJobRequest* request,
                                                  v1::StopJobReply* reply) {
  return on_owner_thread(context, [request, reply](ClusterState& state, Now now) {
    Result<JobId> id = state.find(request->job(), request->life());
    if (id) {
      id = state.stop(*id, milliseconds(request->grace_ms()), request->force(), now,
                      from_proto(request->by()));
    }
    if (!id) return to_status(id.failure());
    *reply->mutable_status() = to_proto(*state.status(*id));
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
