#include "control/common/grpc_error.h"
#include "control/master/convert.h"
#include "control/master/job_service.h"

namespace longhaul {

grpc::ServerUnaryReactor* JobServiceImpl::SubmitJob(grpc::CallbackServerContext* context,
                                                    const v1::SubmitJobRequest* request,
                                                    v1::SubmitJobReply* reply) {
  return on_owner_thread(context, [this, request, reply](ClusterState& state, Now now) {
    if (!core_->takes_jobs()) return closing();
    if (const auto why = core_->trouble()) {
      return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                          "the master takes no new jobs, its disk does not take them: " + *why);
    }
    const Result<JobId> id =
        state.submit(from_proto(request->spec()), request->submission_key(), now);
    if (!id) return to_status(id.failure());
    reply->set_job_id(*id);
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
