#include "longhaul/control/job_client.h"

#include <random>
#include <utility>

#include "control/client/job_watch.h"
#include "control/common/channel.h"
#include "control/common/compression.h"
#include "control/common/event_proto.h"
#include "control/common/job_proto.h"
#include "longhaul/base/strings.h"
#include "longhaul/membership/user_text.h"

namespace longhaul {
namespace {

// Of inputs in one message, with a little for each.
constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr size_t kInputOverhead = 8;

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
  node.drained = proto.drained();
  return node;
}

// The pieces of one result after the other as they come from the master.
class ResultAssembly {
 public:
  explicit ResultAssembly(const std::function<bool(const ResultPiece&)>& each) : each_(each) {}

  // False: no more is wanted.
  bool add(const v1::TaskResult& message) {
    if (std::exchange(passing_over_, false) && message.task() == task_) {
      passing_over_ = message.more();
      return true;
    }
    task_ = message.task();
    if (!frames_) frames_.emplace();
    ResultPiece piece{
        message.task(), message.attempt(), message.result_bytes(), frames_->size(), {}, false};
    if (!message.damaged().empty()) return pass_over(piece, message, message.damaged());
    bool wanted = true;
    Result<void> taken = frames_->add(message.result(), [&](std::string_view bytes) {
      piece.data = bytes;
      wanted = each_(piece);
      piece.offset += bytes.size();
      return wanted;
    });
    if (!wanted) return false;
    if (taken && message.more()) return true;
    if (taken) taken = frames_->finish(message.result_bytes());
    if (!taken) return pass_over(piece, message, taken.failure().message);
    return last(piece);
  }

 private:
  bool last(ResultPiece& piece) {
    piece.data = {};
    piece.last = true;
    frames_.reset();
    return each_(piece);
  }
  // What else comes of it is of no use.
  bool pass_over(ResultPiece& piece, const v1::TaskResult& message, std::string_view why) {
    passing_over_ = message.more() && message.damaged().empty();
    piece.damaged = why;
    return last(piece);
  }

  const std::function<bool(const ResultPiece&)>& each_;
  std::optional<Decompressor> frames_;
  TaskIndex task_ = 0;
  bool passing_over_ = false;
};

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

  // Of a call about a job that was heard of before: that very one is meant.
  template <typename Request>
  void name(Request* request, const std::string& job) const {
    request->set_job(job);
    request->set_life(lives_->of(job));
  }
  JobStatus heard(const v1::JobStatus& status) {
    lives_->learn(status.job_id(), status.life());
    return from_proto(status);
  }

  const std::string address_;
  const milliseconds call_timeout_;
  // Shared with the watches, which may outlive the client.
  const std::shared_ptr<v1::JobService::Stub> stub_;
  const std::shared_ptr<JobLives> lives_ = std::make_shared<JobLives>();
};

JobClient::JobClient(const std::string& address, milliseconds call_timeout)
    : impl_(std::make_unique<Impl>(address, call_timeout)) {}

JobClient::~JobClient() = default;

const std::string& JobClient::address() const {
  return impl_->address_;
}

Result<JobId> JobClient::submit(const JobSpec& spec, const std::string& submission_key,
                                const std::vector<std::string>& inputs) {
  // Also because a message whose text is no text would be refused without a word.
  if (const auto unusable = why_unusable_text(spec)) return *unusable;
  size_t bytes = 0;
  for (const std::string& input : inputs) bytes += input.size();
  if (bytes > kChunkBytes) {
    size_t at = 0;
    const auto next = [&](std::string* input) {
      if (at == inputs.size()) return false;
      *input = inputs[at++];
      return true;
    };
    return submit_array(spec, next, submission_key);
  }
  v1::SubmitJobRequest request;
  *request.mutable_spec() = to_proto(spec);
  request.set_submission_key(submission_key.empty() ? fresh_submission_key() : submission_key);
  request.mutable_inputs()->Assign(inputs.begin(), inputs.end());
  const Result<v1::SubmitJobReply> reply = impl_->call(&v1::JobService::Stub::SubmitJob, request);
  if (!reply) return reply.failure();
  impl_->lives_->learn(reply->job_id(), reply->life());
  return reply->job_id();
}

Result<JobId> JobClient::submit_array(JobSpec spec, const std::function<bool(std::string*)>& next,
                                      const std::string& submission_key) {
  if (const auto unusable = why_unusable_text(spec)) return *unusable;
  grpc::ClientContext context;
  v1::SubmitJobReply reply;
  const auto stream = impl_->stub_->SubmitArray(&context, &reply);
  v1::SubmitArrayRequest request;
  size_t bytes = 0;
  uint64_t tasks = 0;
  bool open = true;
  const auto send = [&] {
    open = open && stream->Write(request);
    request.Clear();
    bytes = 0;
  };
  for (std::string input; open && tasks < kMaxTasks && next(&input); ++tasks) {
    bytes += input.size() + kInputOverhead;
    request.mutable_inputs()->add_inputs(std::move(input));
    if (bytes >= kChunkBytes) send();
  }
  if (open && (tasks == 0 || tasks == kMaxTasks)) {
    std::string one_more;
    if (tasks == 0 || next(&one_more)) {
      context.TryCancel();
      (void)stream->Finish();
      return Failure{ErrorKind::kInvalid,
                     tasks == 0 ? "there is not one input"
                                : str_cat("an array has ", kMaxTasks, " tasks at most")};
    }
  }
  if (bytes > 0) send();
  spec.array->tasks = static_cast<TaskIndex>(tasks);
  *request.mutable_spec()->mutable_spec() = to_proto(spec);
  request.mutable_spec()->set_submission_key(submission_key.empty() ? fresh_submission_key()
                                                                    : submission_key);
  send();
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  if (!status.ok()) return master_failure(status, impl_->whom());
  impl_->lives_->learn(reply.job_id(), reply.life());
  return reply.job_id();
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
  impl_->name(&request, job);
  const Result<v1::GetJobReply> reply = impl_->call(&v1::JobService::Stub::GetJob, request);
  if (!reply) return reply.failure();
  return impl_->heard(reply->status());
}

Result<JobStatus> JobClient::stop(const std::string& job, const StopOptions& options) {
  v1::StopJobRequest request;
  impl_->name(&request, job);
  request.set_grace_ms(static_cast<uint32_t>(options.grace.count()));
  request.set_force(options.force);
  const Result<v1::StopJobReply> reply = impl_->call(&v1::JobService::Stub::StopJob, request);
  if (!reply) return reply.failure();
  return impl_->heard(reply->status());
}

Result<std::vector<NodeInfo>> JobClient::nodes() {
  const Result<v1::ListNodesReply> reply =
      impl_->call(&v1::JobService::Stub::ListNodes, v1::ListNodesRequest());
  if (!reply) return reply.failure();
  std::vector<NodeInfo> nodes;
  for (const v1::Node& node : reply->nodes()) nodes.push_back(node_from(node));
  return nodes;
}

Result<Explanation> JobClient::explain(const std::string& job) {
  v1::ExplainJobRequest request;
  request.set_job(job);
  const Result<v1::ExplainJobReply> reply = impl_->call(&v1::JobService::Stub::ExplainJob, request);
  if (!reply) return reply.failure();
  return from_proto(*reply);
}

Result<NodeInfo> JobClient::drain(const WorkerId& worker, bool drained) {
  v1::DrainNodeRequest request;
  request.set_worker_id(worker);
  request.set_undo(!drained);
  const Result<v1::DrainNodeReply> reply = impl_->call(&v1::JobService::Stub::DrainNode, request);
  if (!reply) return reply.failure();
  return node_from(reply->node());
}

Result<void> JobClient::forget(const WorkerId& worker) {
  v1::ForgetNodeRequest request;
  request.set_worker_id(worker);
  const Result<v1::ForgetNodeReply> reply = impl_->call(&v1::JobService::Stub::ForgetNode, request);
  if (!reply) return reply.failure();
  return {};
}

Result<void> JobClient::events(const EventOptions& options,
                               const std::function<bool(const ClusterEvent&)>& each) {
  v1::WatchEventsRequest request;
  request.set_job(options.job);
  request.set_worker_id(options.worker);
  request.set_since_unix_ms(options.since_unix_ms);
  request.set_after_number(options.after);
  request.set_follow(options.follow);
  grpc::ClientContext context;
  if (options.limit.count() > 0) {
    context.set_deadline(std::chrono::system_clock::now() + options.limit);
  }
  const auto stream = impl_->stub_->WatchEvents(&context, request);
  v1::Event message;
  while (stream->Read(&message)) {
    if (each(from_proto(message))) continue;
    context.TryCancel();
    return {};
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) return master_failure(status, impl_->whom());
  return {};
}

Result<void> JobClient::results(const std::string& job, const ResultOptions& options,
                                const std::function<bool(const TaskResult&)>& each) {
  TaskResult result;
  return result_pieces(job, options, [&](const ResultPiece& piece) {
    if (!piece.last) {
      result.data += piece.data;
      return true;
    }
    result.task = piece.task;
    result.attempt = piece.attempt;
    result.damaged = piece.damaged;
    return each(std::exchange(result, {}));
  });
}

Result<void> JobClient::result_pieces(const std::string& job, const ResultOptions& options,
                                      const std::function<bool(const ResultPiece&)>& each) {
  v1::GetResultsRequest request;
  impl_->name(&request, job);
  request.set_first_task(options.first_task);
  request.set_follow(options.follow);
  grpc::ClientContext context;
  const auto stream = impl_->stub_->GetResults(&context, request);
  ResultAssembly assembly(each);
  bool wanted = true;
  for (v1::TaskResult message; wanted && stream->Read(&message);) wanted = assembly.add(message);
  if (!wanted) {
    context.TryCancel();
    return {};
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) return master_failure(status, impl_->whom());
  return {};
}

std::unique_ptr<JobWatch> JobClient::watch(const std::string& job, const WatchOptions& options) {
  v1::WatchJobRequest request;
  impl_->name(&request, job);
  request.set_output(options.output);
  request.set_from_start(options.from_start);
  request.set_follow(options.follow);
  request.set_attempt(options.attempt);
  request.set_since_unix_ms(options.since_unix_ms);
  for (const Rank rank : options.only_ranks) request.add_only_ranks(static_cast<uint32_t>(rank));
  return start_watch(impl_->stub_, request, impl_->whom(), impl_->lives_);
}

}  // namespace longhaul
