#include "control/common/grpc_error.h"
#include "control/master/convert.h"
#include "control/master/job_service.h"

namespace longhaul {

namespace {

grpc::Status submit(ClusterState& state, const JobSpec& spec, const v1::SubmitJobRequest& request,
                    Now now, v1::SubmitJobReply* reply) {
  const Result<JobId> id = state.submit(spec, request.submission_key(), now);
  if (!id) return to_status(id.failure());
  reply->set_job_id(*id);
  return grpc::Status::OK;
}

}  // namespace

grpc::ServerUnaryReactor* JobServiceImpl::SubmitJob(grpc::CallbackServerContext* context,
                                                    const v1::SubmitJobRequest* request,
                                                    v1::SubmitJobReply* reply) {
  return on_owner_thread(context, [this, request, reply](ClusterState& state, Now now) {
    if (!core_->takes_jobs()) return closing();
    if (const auto why = core_->trouble()) {
      return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                          "the master takes no new jobs, its disk does not take them: " + *why);
    }
    const JobSpec spec = from_proto(request->spec());
    if (!spec.array) return submit(state, spec, *request, now, reply);
    if (core_->state_folder().empty()) {
      return to_status({ErrorKind::kInvalid,
                        "this master keeps nothing on disk (--in-memory), so it cannot keep the "
                        "results of an array; start it with --state"});
    }
    Result<TaskInputs> inputs =
        TaskInputs::make(*spec.array, {request->inputs().begin(), request->inputs().end()});
    if (!inputs) return to_status(inputs.failure());
    const grpc::Status status = submit(state, spec, *request, now, reply);
    // A repeated call has brought them before.
    if (status.ok() && !core_->has_inputs(reply->job_id())) {
      core_->add_inputs(reply->job_id(), std::move(*inputs));
    }
    return status;
  });
}

}  // namespace longhaul
