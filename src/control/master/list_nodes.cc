#include "control/master/convert.h"
#include "control/master/job_service.h"

namespace longhaul {

grpc::ServerUnaryReactor* JobServiceImpl::ListNodes(grpc::CallbackServerContext* context,
                                                    const v1::ListNodesRequest* /*request*/,
                                                    v1::ListNodesReply* reply) {
  return on_owner_thread<Call::kLooksUp>(context, [reply](ClusterState& state, Now) {
    for (const NodeStatus& node : state.nodes()) *reply->add_nodes() = to_proto(node);
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
