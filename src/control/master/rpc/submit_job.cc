#include "cluster/jobs/user_text.h"
#include "control/convert/worker_proto.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {

namespace {

// Why it cannot have tasks; nullopt for a gang.
std::optional<Failure> why_no_array(const Core& core, const JobSpec& spec,
                                    const std::vector<std::string>& inputs) {
  if (!spec.array) return std::nullopt;
  if (core.state_folder().empty()) {
    return Failure{ErrorKind::kInvalid,
                   "this master keeps nothing on disk (--in-memory), so it cannot keep the results "
                   "of an array; start it with --state"};
  }
  for (size_t task = 0; task < inputs.size(); ++task) {
    const auto bad = why_no_argument(str_cat("the input of task ", task), inputs[task]);
    if (bad) return bad;
  }
  const Result<void> fits = TaskInputs::check(*spec.array, inputs.size());
  return fits ? std::nullopt : std::optional(fits.failure());
}

}  // namespace

grpc::ServerUnaryReactor* JobServiceImpl::SubmitJob(grpc::CallbackServerContext* context,
                                                    const v1::SubmitJobRequest* request,
                                                    v1::SubmitJobReply* reply) {
  // Whether this call has made the job: one that repeats an earlier submission must not undo it.
  const auto is_new = std::make_shared<bool>(false);
  const auto submit = [this, request, reply, is_new](ClusterState& state, Now now) {
    if (!core_->takes_jobs()) return closing();
    if (const auto why = core_->trouble()) return takes_no_jobs(*why);
    const JobSpec spec = from_proto(request->spec());
    const std::vector<std::string> inputs(request->inputs().begin(), request->inputs().end());
    if (const auto why = why_no_array(*core_, spec, inputs)) return to_status(*why);
    *is_new = !state.knows_submission(request->submission_key());
    const Result<JobId> id = state.submit(spec, request->submission_key(), now);
    if (!id) return to_status(id.failure());
    reply->set_job_id(*id);
    reply->set_life(state.status(*id)->life);
    // A repeated call finds the job, and the inputs that the first one brought.
    if (spec.array && !core_->has_inputs(*id)) core_->add_inputs(*id, *spec.array, inputs);
    return grpc::Status::OK;
  };
  const auto undo = [reply, is_new](ClusterState& state, Now now) {
    if (*is_new) state.withdraw(reply->job_id(), kNotWrittenDown, now);
  };
  return on_owner_thread(context, submit, undo);
}

}  // namespace longhaul
