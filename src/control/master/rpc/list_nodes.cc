#include "control/convert/worker_proto.h"
#include "control/master/rpc/job_service.h"

namespace longhaul {
namespace {

// In pages, as jobs are: see list_jobs.cc.
constexpr size_t kNodePageBytes = size_t{1} << 20;

}  // namespace

grpc::ServerUnaryReactor* JobServiceImpl::ListNodes(grpc::CallbackServerContext* context,
                                                    const v1::ListNodesRequest* request,
                                                    v1::ListNodesReply* reply) {
  return on_owner_thread<Call::kLooksUp>(context, [request, reply](ClusterState& state, Now) {
    size_t bytes = 0;
    for (const NodeStatus& node : state.nodes()) {
      if (node.worker.id <= request->after()) continue;
      if (bytes >= kNodePageBytes) {
        reply->set_more(true);
        break;
      }
      *reply->add_nodes() = to_proto(node);
      bytes += reply->nodes(reply->nodes_size() - 1).ByteSizeLong();
    }
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
