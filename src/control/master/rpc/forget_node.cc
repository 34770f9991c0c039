#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {

grpc::ServerUnaryReactor* JobServiceImpl::ForgetNode(grpc::CallbackServerContext* context,
                                                     const v1::ForgetNodeRequest* request,
                                                     v1::ForgetNodeReply* /*reply*/) {
  return on_owner_thread(context, [this, request](ClusterState& state, Now) {
    if (const auto why = core_->trouble()) {
      return to_status({why->kind, "the master cannot write it down: " + why->message});
    }
    const Result<void> done = state.forget_worker(request->worker_id());
    return done ? grpc::Status::OK : to_status(done.failure());
  });
}

}  // namespace longhaul
