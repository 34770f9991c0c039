#include "control/master/convert.h"
#include "control/master/job_service.h"

namespace longhaul {

grpc::ServerUnaryReactor* JobServiceImpl::ListJobs(grpc::CallbackServerContext* context,
                                                   const v1::ListJobsRequest* request,
                                                   v1::ListJobsReply* reply) {
  return on_owner_thread<Call::kLooksUp>(context, [request, reply](ClusterState& state, Now) {
    for (const JobStatus* job : state.list(request->include_ended())) {
      *reply->add_jobs() = to_proto(*job);
    }
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
