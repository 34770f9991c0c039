// WriteInput: passed on to the worker of rank 0, whose answer ends the call.
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

std::optional<Failure> why_not(const ClusterState& state, const JobId& job,
                               const v1::WriteInputRequest& request) {
  if (request.data().size() > InputRelay::kMostBytes) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("a call brings at most ", InputRelay::kMostBytes, " bytes of input")};
  }
  if (state.status(job)->spec.input) return std::nullopt;
  return Failure{ErrorKind::kInvalid,
                 str_cat("job ", job, " takes no input: it was not submitted with --stdin")};
}

}  // namespace

grpc::ServerUnaryReactor* JobServiceImpl::WriteInput(grpc::CallbackServerContext* context,
                                                     const v1::WriteInputRequest* request,
                                                     v1::WriteInputReply* reply) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool posted =
      core_->post([core = core_, reactor, request, reply](ClusterState& state, Now now) {
        const Result<JobId> id = state.find(request->job(), request->life());
        if (!id) return reactor->Finish(to_status(id.failure()));
        if (const auto why = why_not(state, *id, *request)) return reactor->Finish(to_status(*why));
        core->write_input(
            *id, *request,
            [reactor, reply](const v1::WriteInputReply& answer) {
              *reply = answer;
              reactor->Finish(grpc::Status::OK);
            },
            now);
      });
  if (!posted) reactor->Finish(closing());
  return reactor;
}

}  // namespace longhaul
