#include "longhaul/control/job_client.h"

#include <random>

#include "control/client/job_watch.h"
#include "control/common/channel.h"
#include "control/common/compression.h"
#include "control/common/job_proto.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

std::string fresh_submission_key() {
  std::random_device random;
  return str_cat(std::hex, random(), random(), random(), random());
}

WorkerState state_from(v1::NodeState state) {
  switch (state) {
    case v1::NODE_STATE_LOST:
      return WorkerState::kLost;
    case v1::NODE_STATE_READY:
      return WorkerState::kReady;
    default:
      return WorkerState::kUnreachable;
  }
}

NodeInfo node_from(const v1::Node& proto) {
  NodeInfo node;
  node.id = proto.worker_id();
  node.host = proto.host();
  node.address = proto.address();
  node.state = state_from(proto.state());
  node.slots = static_cast<int>(proto.slots());
  node.used_slots = static_cast<int>(proto.used_slots());
  node.gpus = static_cast<int>(proto.gpus());
  node.used_gpus = static_cast<int>(proto.used_gpus());
  node.memory_bytes = proto.memory_bytes();
  node.used_memory_bytes = proto.used_memory_bytes();
  node.pid = proto.pid();
  node.version = proto.version();
  node.unix_ms_last_heard = proto.unix_ms_last_heard();
  node.jobs = {proto.jobs().begin(), proto.jobs().end()};
  return node;
}

}  // namespace

class JobClient::Impl {
 public:
  Impl(std::string address, milliseconds call_timeout)
      : address_(std::move(address)),
        call_timeout_(call_timeout),
        stub_(v1::JobService::NewStub(make_channel(address_))) {}

  template <typename Request, typename Reply>
  Result<Reply> call(grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*,
                                                                  const Request&, Reply*),
                     const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + call_timeout_);
    Reply reply;
    const grpc::Status status = ((*stub_).*method)(&context, request, &reply);
    if (!status.ok()) return master_failure(status, whom());
    return reply;
  }

  std::string whom() const { return "master at " + address_; }

  const std::string address_;
  const milliseconds call_timeout_;
  // Shared with the watches, which may outlive the client.
  const std::shared_ptr<v1::JobService::Stub> stub_;
};

JobClient::JobClient(const std::string& address, milliseconds call_timeout)
    : impl_(std::make_unique<Impl>(address, call_timeout)) {}

JobClient::~JobClient() = default;

const std::string& JobClient::address() const {
  return impl_->address_;
}

Result<JobId> JobClient::submit(const JobSpec& spec, const std::string& submission_key,
                                const std::vector<std::string>& inputs) {
  v1::SubmitJobRequest request;
  *request.mutable_spec() = to_proto(spec);
  request.set_submission_key(submission_key.empty() ? fresh_submission_key() : submission_key);
  request.mutable_inputs()->Assign(inputs.begin(), inputs.end());
  const Result<v1::SubmitJobReply> reply = impl_->call(&v1::JobService::Stub::SubmitJob, request);
  if (!reply) return reply.failure();
  return reply->job_id();
}

Result<std::vector<JobStatus>> JobClient::list(bool include_ended) {
  v1::ListJobsRequest request;
  request.set_include_ended(include_ended);
  const Result<v1::ListJobsReply> reply = impl_->call(&v1::JobService::Stub::ListJobs, request);
  if (!reply) return reply.failure();
  std::vector<JobStatus> jobs;
  for (const v1::JobStatus& job : reply->jobs()) jobs.push_back(from_proto(job));
  return jobs;
}

Result<JobStatus> JobClient::get(const std::string& job) {
  v1::GetJobRequest request;
  request.set_job(job);
  const Result<v1::GetJobReply> reply = impl_->call(&v1::JobService::Stub::GetJob, request);
  if (!reply) return reply.failure();
  return from_proto(reply->status());
}

Result<JobStatus> JobClient::stop(const std::string& job, const StopOptions& options) {
  v1::StopJobRequest request;
  request.set_job(job);
  request.set_grace_ms(static_cast<uint32_t>(options.grace.count()));
  request.set_force(options.force);
  const Result<v1::StopJobReply> reply = impl_->call(&v1::JobService::Stub::StopJob, request);
  if (!reply) return reply.failure();
  return from_proto(reply->status());
}

Result<std::vector<NodeInfo>> JobClient::nodes() {
  const Result<v1::ListNodesReply> reply =
      impl_->call(&v1::JobService::Stub::ListNodes, v1::ListNodesRequest());
  if (!reply) return reply.failure();
  std::vector<NodeInfo> nodes;
  for (const v1::Node& node : reply->nodes()) nodes.push_back(node_from(node));
  return nodes;
}

Result<void> JobClient::results(const std::string& job, const ResultOptions& options,
                                const std::function<bool(const TaskResult&)>& each) {
  v1::GetResultsRequest request;
  request.set_job(job);
  request.set_first_task(options.first_task);
  request.set_follow(options.follow);
  grpc::ClientContext context;
  const auto stream = impl_->stub_->GetResults(&context, request);
  v1::TaskResult message;
  while (stream->Read(&message)) {
    Result<std::string> data = decompress(message.result(), message.result_bytes());
    if (!data) {
      context.TryCancel();
      return Failure{data.failure().kind,
                     str_cat("task ", message.task(), ": ", data.failure().message)};
    }
    if (!each({message.task(), message.attempt(), std::move(*data)})) {
      context.TryCancel();
      return {};
    }
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) return master_failure(status, impl_->whom());
  return {};
}

std::unique_ptr<JobWatch> JobClient::watch(const std::string& job, const WatchOptions& options) {
  v1::WatchJobRequest request;
  request.set_job(job);
  request.set_output(options.output);
  request.set_from_start(options.from_start);
  request.set_follow(options.follow);
  for (const Rank rank : options.only_ranks) request.add_only_ranks(static_cast<uint32_t>(rank));
  return start_watch(impl_->stub_, request, impl_->whom());
}

}  // namespace longhaul
