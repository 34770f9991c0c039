// JobService: what the command line asks. Each RPC has a file of its own; a handler turns bytes
// into values, asks the owner thread, and answers from there.
#pragma once

#include <functional>

#include "base/queue.h"
#include "base/thread.h"
#include "control/master/core/core.h"
#include "longhaul/v1/job_service.grpc.pb.h"
#include "rpc/grpc_error.h"

namespace longhaul {

class JobServiceImpl final : public v1::JobService::CallbackService {
 public:
  explicit JobServiceImpl(Core* core)
      : core_(core), lookup_thread_("lh-results", [this] {
          while (const auto lookup = lookups_.pop()) (*lookup)();
        }) {}
  ~JobServiceImpl() override {
    lookups_.close();
    lookup_thread_.join();
  }

  grpc::ServerUnaryReactor* SubmitJob(grpc::CallbackServerContext* context,
                                      const v1::SubmitJobRequest* request,
                                      v1::SubmitJobReply* reply) override;
  grpc::ServerReadReactor<v1::SubmitArrayRequest>* SubmitArray(grpc::CallbackServerContext* context,
                                                               v1::SubmitJobReply* reply) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsReply* reply) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request,
                                   v1::GetJobReply* reply) override;
  grpc::ServerWriteReactor<v1::WatchJobEvent>* WatchJob(
      grpc::CallbackServerContext* context, const v1::WatchJobRequest* request) override;
  grpc::ServerWriteReactor<v1::TaskResult>* GetResults(
      grpc::CallbackServerContext* context, const v1::GetResultsRequest* request) override;
  grpc::ServerUnaryReactor* StopJob(grpc::CallbackServerContext* context,
                                    const v1::StopJobRequest* request,
                                    v1::StopJobReply* reply) override;
  grpc::ServerUnaryReactor* WriteInput(grpc::CallbackServerContext* context,
                                       const v1::WriteInputRequest* request,
                                       v1::WriteInputReply* reply) override;
  grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* context,
                                      const v1::ListNodesRequest* request,
                                      v1::ListNodesReply* reply) override;

  grpc::ServerUnaryReactor* ExplainJob(grpc::CallbackServerContext* context,
                                       const v1::ExplainJobRequest* request,
                                       v1::ExplainJobReply* reply) override;
  grpc::ServerUnaryReactor* DrainNode(grpc::CallbackServerContext* context,
                                      const v1::DrainNodeRequest* request,
                                      v1::DrainNodeReply* reply) override;
  grpc::ServerUnaryReactor* ForgetNode(grpc::CallbackServerContext* context,
                                       const v1::ForgetNodeRequest* request,
                                       v1::ForgetNodeReply* reply) override;
  grpc::ServerWriteReactor<v1::Event>* WatchEvents(grpc::CallbackServerContext* context,
                                                   const v1::WatchEventsRequest* request) override;

  // What refusals say.
  static constexpr const char* kNotWrittenDown =
      "its submission was refused: it could not be written down";
  static grpc::Status takes_no_jobs(const Failure& why) {
    return to_status(
        {why.kind, "the master takes no new jobs, its disk does not take them: " + why.message});
  }
  static grpc::Status closing() {
    return {grpc::StatusCode::UNAVAILABLE, "the master is shutting down"};
  }
  static grpc::Status not_durable(const Core* core) {
    const auto why = core->trouble();
    return to_status({why ? why->kind : ErrorKind::kExhausted,
                      str_cat("the master could not write down what was asked: ",
                              why ? why->message : "it ends; ask again")});
  }

 private:
  // Runs `work` on the owner thread and finishes the call with what it returns, once that is
  // durable. The request and the reply live until then. A refusal promises nothing and goes out at
  // once; so does what was only looked up while the disk takes nothing. What was to change and
  // cannot be written down is refused, after `undo` has been called there.
  enum class Call { kChanges, kLooksUp };
  template <Call kCall = Call::kChanges, typename Work, typename Undo>
  grpc::ServerUnaryReactor* on_owner_thread(grpc::CallbackServerContext* context, Work work,
                                            Undo undo) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const bool posted = core_->post([core = core_, reactor, work = std::move(work),
                                     undo = std::move(undo)](ClusterState& state, Now now) {
      const grpc::Status status = work(state, now);
      if (!status.ok() || (kCall == Call::kLooksUp && core->trouble())) {
        reactor->Finish(status);
        return;
      }
      core->when_durable_soon([core, reactor, status, undo, &state, now](bool durable) {
        const bool well = durable || kCall == Call::kLooksUp;
        if (!well) undo(state, now);
        reactor->Finish(well ? status : not_durable(core));
      });
    });
    if (!posted) reactor->Finish(closing());
    return reactor;
  }
  template <Call kCall = Call::kChanges, typename Work>
  grpc::ServerUnaryReactor* on_owner_thread(grpc::CallbackServerContext* context, Work work) {
    return on_owner_thread<kCall>(context, std::move(work), [](ClusterState&, Now) {});
  }

  Core* const core_;
  Queue<std::function<void()>> lookups_;  // what reads the disk, off the owner thread
  Thread lookup_thread_;                  // last: it starts when all else is there
};

}  // namespace longhaul
