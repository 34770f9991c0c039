#include <algorithm>

#include "control/convert/worker_proto.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {

grpc::ServerUnaryReactor* JobServiceImpl::DrainNode(grpc::CallbackServerContext* context,
                                                    const v1::DrainNodeRequest* request,
                                                    v1::DrainNodeReply* reply) {
  return on_owner_thread(context, [this, request, reply](ClusterState& state, Now now) {
    if (const auto why = core_->trouble()) {
      return to_status({why->kind, "the master cannot write it down: " + why->message});
    }
    const Result<void> done = state.drain(request->worker_id(), !request->undo(), now);
    if (!done) return to_status(done.failure());
    const std::vector<NodeStatus> nodes = state.nodes();
    const auto node = std::find_if(nodes.begin(), nodes.end(), [&](const NodeStatus& one) {
      return one.worker.id == request->worker_id();
    });
    *reply->mutable_node() = to_proto(*node);
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
