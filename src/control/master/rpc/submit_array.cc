// SubmitArray: an array whose inputs come in chunks. Each chunk is a row on disk before the next
// one is read, so neither memory nor a message bounds how many there are; the job names the rows in
// the transaction that makes it. What breaks off before leaves nothing.
#include <functional>
#include <memory>
#include <utility>

#include "cluster/jobs/user_text.h"
#include "control/convert/worker_proto.h"
#include "control/database/result_files.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

// The client sends about 1 MiB at once. One input alone may have 15 MiB, and a chunk holds at least
// one.
constexpr size_t kMaxChunkBytes = size_t{16} << 20;

class ArraySubmission final : public grpc::ServerReadReactor<v1::SubmitArrayRequest> {
 public:
  ArraySubmission(Core* core, v1::SubmitJobReply* reply) : core_(core), reply_(reply) {}

  static ArraySubmission* start(Core* core, v1::SubmitJobReply* reply) {
    auto submission = std::make_shared<ArraySubmission>(core, reply);
    submission->self_ = submission;
    submission->StartRead(&submission->request_);
    return submission.get();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish({grpc::StatusCode::CANCELLED, "the array ended before its spec"});
    const bool posted = core_->post([self = self_](ClusterState& state, Now now) {
      const grpc::Status status = self->take(state, now);
      if (!status.ok()) self->Finish(status);
    });
    if (!posted) Finish({grpc::StatusCode::UNAVAILABLE, "the master is shutting down"});
  }

  void OnDone() override {
    // No job names the rows, or the job of a repeated call has its own: they go.
    if (set_ != 0 && !used_) {
      core_->post([core = core_, set = set_](ClusterState&, Now) { core->drop_staged(set); });
    }
    self_.reset();
  }

 private:
  // On the owner thread.
  grpc::Status take(ClusterState& state, Now now) {
    if (!core_->takes_jobs()) return {grpc::StatusCode::UNAVAILABLE, "the master is shutting down"};
    if (core_->state_folder().empty()) {
      return to_status({ErrorKind::kInvalid,
                        "this master keeps nothing on disk (--in-memory), so it cannot keep the "
                        "inputs of an array; start it with --state"});
    }
    if (const auto why = core_->trouble()) return JobServiceImpl::takes_no_jobs(*why);
    switch (request_.part_case()) {
      case v1::SubmitArrayRequest::kInputs:
        return take_inputs();
      case v1::SubmitArrayRequest::kSpec:
        return submit(state, now);
      default:
        return to_status({ErrorKind::kInvalid, "a part that this master does not know"});
    }
  }

  grpc::Status take_inputs() {
    const auto count = static_cast<uint64_t>(request_.inputs().inputs_size());
    std::string bytes = request_.inputs().SerializeAsString();
    if (count == 0 || bytes.size() > kMaxChunkBytes || tasks_ + count > kMaxTasks) {
      return to_status(
          {ErrorKind::kInvalid,
           str_cat("a chunk of ", count, " inputs in ", bytes.size(), " bytes after ", tasks_,
                   ": at most ", kMaxTasks, " inputs, and ", kMaxChunkBytes, " bytes in a chunk")});
    }
    for (uint64_t i = 0; i < count; ++i) {
      const auto bad = why_no_argument(str_cat("the input of task ", tasks_ + i),
                                       request_.inputs().inputs(static_cast<int>(i)));
      if (bad) return to_status(*bad);
    }
    if (const Result<void> room = check_room(core_->state_folder(), bytes.size()); !room) {
      return JobServiceImpl::takes_no_jobs({ErrorKind::kExhausted, room.failure().message});
    }
    if (set_ == 0) set_ = core_->new_input_set();
    core_->stage_inputs({set_, static_cast<TaskIndex>(tasks_), std::move(bytes)});
    tasks_ += count;
    core_->when_durable_soon([self = self_](bool durable) {
      // The next chunk is read only when this one is on disk: so a client can send no faster than
      // the disk takes it.
      if (durable) return self->StartRead(&self->request_);
      self->Finish(JobServiceImpl::not_durable(self->core_));
    });
    return grpc::Status::OK;
  }

  grpc::Status submit(ClusterState& state, Now now) {
    const JobSpec spec = from_proto(request_.spec().spec());
    if (!spec.array || !spec.array->indices.empty() || spec.array->tasks != tasks_) {
      return to_status(
          {ErrorKind::kInvalid, str_cat("an array of ", spec.array ? spec.array->tasks : 0,
                                        " tasks has ", tasks_, " inputs")});
    }
    const bool is_new = !state.knows_submission(request_.spec().submission_key());
    const Result<JobId> id = state.submit(spec, request_.spec().submission_key(), now);
    if (!id) return to_status(id.failure());
    // The same submission came before, and its inputs with it: these rows are not used.
    if (!core_->has_inputs(*id)) {
      core_->add_stored_inputs(*id, *spec.array, set_);
      used_ = true;
    }
    reply_->set_job_id(*id);
    reply_->set_life(state.status(*id)->life);
    core_->when_durable_soon([self = self_, &state, now, is_new](bool durable) {
      if (durable) return self->Finish(grpc::Status::OK);
      // A call that repeats an earlier submission must not undo it.
      if (is_new) state.withdraw(self->reply_->job_id(), JobServiceImpl::kNotWrittenDown, now);
      self->Finish(JobServiceImpl::not_durable(self->core_));
    });
    return grpc::Status::OK;
  }

  Core* const core_;
  v1::SubmitJobReply* const reply_;
  std::shared_ptr<ArraySubmission> self_;  // gRPC holds a plain pointer until OnDone()
  v1::SubmitArrayRequest request_;
  uint64_t set_ = 0;  // of rows that no job names yet
  uint64_t tasks_ = 0;
  bool used_ = false;  // by the job
};

}  // namespace

grpc::ServerReadReactor<v1::SubmitArrayRequest>* JobServiceImpl::SubmitArray(
    grpc::CallbackServerContext* /*context*/, v1::SubmitJobReply* reply) {
  return ArraySubmission::start(core_, reply);
}

}  // namespace longhaul
