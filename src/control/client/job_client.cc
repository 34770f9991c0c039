#include "control/client/job_client.h"
#include "agent/client/enum_pairs.h"
#include "base/random_id.h"

#include <errno.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "cluster/jobs/user_text.h"
#include "control/client/connection.h"
#include "control/client/job_watch.h"
#include "control/convert/compression.h"
#include "control/convert/event_proto.h"
#include "control/convert/job_proto.h"
#include "control/convert/worker_proto.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Inputs are sent when they fill so much, counting a few bytes for the frame of each.
constexpr size_t kChunkBytes = size_t{1} << 20;
constexpr size_t kInputOverhead = 8;
constexpr size_t kMaxInputBytes = size_t{15} << 20;  // a chunk has 16 MiB at most

// Of an input of an array, the `count`th: what there is against it.
std::optional<Failure> why_bad(const Result<bool>& read, const std::string& input, uint64_t count) {
  if (!read) return read.failure();
  if (count > kMaxTasks) {
    return Failure{ErrorKind::kInvalid, str_cat("an array has ", kMaxTasks, " tasks at most")};
  }
  if (input.size() <= kMaxInputBytes) return std::nullopt;
  return Failure{ErrorKind::kInvalid, str_cat("input ", count, " has ", format_bytes(input.size()),
                                              ", and ", format_bytes(kMaxInputBytes),
                                              " is the most: pass the name of a file instead")};
}

NodeInfo node_from(const v1::Node& proto) {
  NodeInfo node;
  node.id = proto.worker_id();
  node.host = proto.host();
  node.address = proto.address();
  node.state = from_proto(proto.state());
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

// An older master does not say the outcome, and gives results of tasks that are done only. One that
// is not known, of a newer master, is not taken for a result.
TaskOutcome outcome_from(v1::TaskOutcome outcome) {
  constexpr EnumPairs kOutcomes = {
      std::pair{TaskOutcome::kDone, v1::TASK_OUTCOME_DONE},
      std::pair{TaskOutcome::kDone, v1::TASK_OUTCOME_UNSPECIFIED},
      std::pair{TaskOutcome::kGivenUp, v1::TASK_OUTCOME_GIVEN_UP},
      std::pair{TaskOutcome::kCancelled, v1::TASK_OUTCOME_CANCELLED},
  };
  return kOutcomes.from(outcome, TaskOutcome::kCancelled);
}

// All but the bytes; its texts are those of `message`.
ResultPiece described(const v1::TaskResult& message) {
  ResultPiece piece;
  piece.task = message.task();
  piece.attempt = message.attempt();
  piece.outcome = outcome_from(message.outcome());
  piece.input = message.input();
  piece.worker = message.worker_id();
  if (message.has_ran_ms()) piece.ran_ms = message.ran_ms();
  piece.error = message.error();
  piece.input_damaged = message.input_damaged();
  piece.size = message.result_bytes();
  return piece;
}

std::string this_user() {
  const passwd* user = ::getpwuid(::geteuid());
  return user != nullptr ? user->pw_name : str_cat("uid ", ::geteuid());
}

std::string this_host() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

StopOrigin completed(StopOrigin origin) {
  if (origin.user.empty()) origin.user = this_user();
  if (origin.host.empty()) origin.host = this_host();
  if (origin.command.empty()) origin.command = program_invocation_short_name;
  return origin;
}

// Makes results of what comes on one stream after the other: each goes on in the middle of the
// result in which the one before broke.
class ResultPieces {
 public:
  using Each = std::function<bool(const ResultPiece&)>;
  ResultPieces(v1::GetResultsRequest request, const Each& each)
      : request_(std::move(request)), each_(each) {}

  Connection::Try read(v1::JobService::Stub& stub) {
    grpc::ClientContext context;
    const auto stream = stub.GetResults(&context, request_);
    // A result is sent from its start on a new stream, so it is also decompressed from its start;
    // add() leaves out what was given before.
    frames_.reset();
    bool heard = false;
    for (v1::TaskResult message; wanted_ && stream->Read(&message); heard = true) take(message);
    // Else Finish() would wait for all that the master still has to send.
    if (!wanted_) context.TryCancel();
    const grpc::Status status = stream->Finish();
    return {wanted_ ? status : grpc::Status::OK, heard};
  }

  bool wanted() const { return wanted_; }

 private:
  void take(const v1::TaskResult& message) {
    if (passed_over_ && message.task() == head_.task()) return;  // what is left of it
    passed_over_ = false;
    // The stream before broke within a result, and this one does not go on with it.
    if (given_ > 0 && message.task() != head_.task()) {
      end("the master came back without the rest of it");
      passed_over_ = false;
      if (!wanted_) return;
    }
    if (!frames_) begin(message);
    if (!message.damaged().empty()) return end(message.damaged());
    Result<void> taken = add(message);
    if (!wanted_ || (taken && message.more())) return;
    const bool has_result = outcome_from(head_.outcome()) == TaskOutcome::kDone;
    if (taken && has_result) taken = frames_->finish(message.result_bytes());
    end(taken ? std::string() : taken.failure().message);
  }

  // The first message of a result says all about its task.
  void begin(const v1::TaskResult& message) {
    frames_.emplace();
    head_ = message;
    // A stream that breaks from here on is asked for this result again, one that breaks after end()
    // for the next one.
    request_.set_first_task(message.task());
    request_.set_behind_first(false);
  }

  // Gives what has not been given on an earlier stream.
  Result<void> add(const v1::TaskResult& message) {
    ResultPiece piece = described(head_);
    uint64_t begin = frames_->size();
    return frames_->add(message.result(), [&](std::string_view bytes) {
      const uint64_t end = begin + bytes.size();
      const size_t known = std::min<uint64_t>(given_ - std::min(given_, begin), bytes.size());
      piece.offset = begin + known;
      piece.data = bytes.substr(known);
      begin = end;
      if (piece.data.empty()) return true;
      given_ = end;
      wanted_ = each_(piece);
      return wanted_;
    });
  }

  void end(const std::string& damage) {
    frames_.reset();
    given_ = 0;
    passed_over_ = !damage.empty();
    request_.set_first_task(head_.task());
    request_.set_behind_first(true);
    ResultPiece piece = described(head_);
    piece.offset = piece.size;
    piece.last = true;
    piece.damaged = damage;
    wanted_ = each_(piece);
  }

  v1::GetResultsRequest request_;  // for what has not been given yet
  const Each& each_;
  std::optional<Decompressor> frames_;
  v1::TaskResult head_;
  uint64_t given_ = 0;        // bytes of that task's result
  bool passed_over_ = false;  // it was damaged
  bool wanted_ = true;
};

}  // namespace

std::string_view to_string(TaskOutcome outcome) {
  switch (outcome) {
    case TaskOutcome::kDone:
      return "done";
    case TaskOutcome::kGivenUp:
      return "given up";
    case TaskOutcome::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

class JobClient::Impl {
 public:
  Impl(const std::string& address, ClientOptions options)
      : connection_(std::make_shared<Connection>(address, std::move(options))) {}

  template <typename Request, typename Reply>
  Result<Reply> call(grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*,
                                                                  const Request&, Reply*),
                     const Request& request, bool* repeated = nullptr) {
    return connection_->call(method, request, repeated);
  }

  // The job's id, for a stream that may be begun again after an absence of the master: "last", or a
  // name, may be another job by then.
  Result<JobId> id_of(const std::string& job, JobClient& client) {
    if (connection_->options().patience.count() == 0 || job.empty()) return job;
    const Result<JobStatus> status = client.get(job);
    if (!status) return status.failure();
    return status->id;
  }

  // Names the job in a request. One that this client has heard of before is named with its life, so
  // that another job which got its id in a later life is not taken for it.
  template <typename Request>
  void name(Request* request, const std::string& job) const {
    request->set_job(job);
    request->set_life(lives_->of(job));
  }
  JobStatus heard(const v1::JobStatus& status) {
    lives_->learn(status.job_id(), status.life());
    return from_proto(status);
  }

  // Shared with the watches, which may outlive the client.
  const std::shared_ptr<Connection> connection_;
  const std::shared_ptr<JobLives> lives_ = std::make_shared<JobLives>();
};

JobClient::JobClient(const std::string& address, ClientOptions options)
    : impl_(std::make_unique<Impl>(address, std::move(options))) {}

JobClient::~JobClient() = default;

const std::string& JobClient::address() const {
  return impl_->connection_->address();
}

Result<JobId> JobClient::submit(const JobSpec& spec, const std::string& submission_key,
                                const std::vector<std::string>& inputs) {
  // Checked here too, because gRPC refuses a message whose strings are not UTF-8 without saying
  // which one.
  if (const auto unusable = why_unusable_text(spec)) return *unusable;
  size_t bytes = 0;
  for (const std::string& input : inputs) bytes += input.size();
  // Too much for one message: the inputs go in chunks, and not again by themselves when that fails.
  if (bytes > kChunkBytes) {
    size_t at = 0;
    const auto next = [&](std::string* input) -> Result<bool> {
      if (at == inputs.size()) return false;
      *input = inputs[at++];
      return true;
    };
    return submit_array(spec, next, submission_key);
  }
  v1::SubmitJobRequest request;
  *request.mutable_spec() = to_proto(spec);
  request.set_submission_key(submission_key.empty() ? random_id() : submission_key);
  request.mutable_inputs()->Assign(inputs.begin(), inputs.end());
  const Result<v1::SubmitJobReply> reply = impl_->call(&v1::JobService::Stub::SubmitJob, request);
  if (!reply) return reply.failure();
  impl_->lives_->learn(reply->job_id(), reply->life());
  return reply->job_id();
}

Result<JobId> JobClient::submit_array(JobSpec spec, const NextInput& next,
                                      const std::string& submission_key) {
  if (const auto unusable = why_unusable_text(spec)) return *unusable;
  grpc::ClientContext context;
  v1::SubmitJobReply reply;
  const auto stream = impl_->connection_->stub().SubmitArray(&context, &reply);
  v1::SubmitArrayRequest request;
  size_t bytes = 0;
  uint64_t tasks = 0;
  bool open = true;
  const auto send = [&] {
    open = open && stream->Write(request);
    request.Clear();
    bytes = 0;
  };
  std::optional<Failure> bad;
  for (std::string input; open && !bad;) {
    const Result<bool> some = next(&input);
    if (some && !*some) break;
    bad = why_bad(some, input, ++tasks);
    bytes += input.size() + kInputOverhead;
    request.mutable_inputs()->add_inputs(std::move(input));
    if (bytes >= kChunkBytes && !bad) send();
  }
  if (open && tasks == 0) bad = Failure{ErrorKind::kInvalid, "there is not one input"};
  // Broken off before the spec, so the master drops the inputs that it has: nothing is submitted.
  if (bad) {
    context.TryCancel();
    (void)stream->Finish();
    return *bad;
  }
  if (bytes > 0) send();
  spec.array->tasks = static_cast<TaskIndex>(tasks);
  *request.mutable_spec()->mutable_spec() = to_proto(spec);
  request.mutable_spec()->set_submission_key(submission_key.empty() ? random_id() : submission_key);
  send();
  // Not tried again here when it fails, unlike other calls: the inputs were read once and are gone.
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  if (!status.ok()) return master_failure(status, impl_->connection_->whom());
  impl_->lives_->learn(reply.job_id(), reply.life());
  return reply.job_id();
}

Result<std::vector<JobStatus>> JobClient::list(bool include_ended) {
  v1::ListJobsRequest request;
  request.set_include_ended(include_ended);
  std::vector<JobStatus> jobs;
  for (bool more = true; more;) {
    const Result<v1::ListJobsReply> page = impl_->call(&v1::JobService::Stub::ListJobs, request);
    if (!page) return page.failure();
    for (const v1::JobStatus& job : page->jobs()) jobs.push_back(from_proto(job));
    // An empty page that promises more would be asked for again and again.
    more = page->more() && page->jobs_size() > 0;
    if (more) request.set_after(jobs.back().id);
  }
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
  // A call whose answer is lost is made again. "last", or a name, may be another job by then.
  const Result<JobStatus> named = get(job);
  if (!named) return named;
  v1::StopJobRequest request;
  impl_->name(&request, named->id);
  request.set_grace_ms(static_cast<uint32_t>(options.grace.count()));
  request.set_force(options.force);
  *request.mutable_by() = to_proto(completed(options.by));
  const Result<v1::StopJobReply> reply = impl_->call(&v1::JobService::Stub::StopJob, request);
  if (!reply) return reply.failure();
  return impl_->heard(reply->status());
}

Result<InputTaken> JobClient::write_input(const std::string& job, uint64_t offset,
                                          const std::string& data, bool end) {
  v1::WriteInputRequest request;
  impl_->name(&request, job);
  request.set_offset(offset);
  request.set_data(data);
  request.set_end(end);
  const Result<v1::WriteInputReply> reply = impl_->call(&v1::JobService::Stub::WriteInput, request);
  if (!reply) return reply.failure();
  return InputTaken{reply->taken(), reply->closed()};
}

Result<std::vector<NodeInfo>> JobClient::nodes() {
  v1::ListNodesRequest request;
  std::vector<NodeInfo> nodes;
  for (bool more = true; more;) {
    const Result<v1::ListNodesReply> page = impl_->call(&v1::JobService::Stub::ListNodes, request);
    if (!page) return page.failure();
    for (const v1::Node& node : page->nodes()) nodes.push_back(node_from(node));
    more = page->more() && page->nodes_size() > 0;
    if (more) request.set_after(nodes.back().id);
  }
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
  bool repeated = false;
  const Result<v1::ForgetNodeReply> reply =
      impl_->call(&v1::JobService::Stub::ForgetNode, request, &repeated);
  if (reply) return {};
  if (!repeated || reply.failure().kind != ErrorKind::kInvalid) return reply.failure();
  // The call whose answer was lost may have done it: then there is no such worker any more.
  const Result<std::vector<NodeInfo>> nodes = this->nodes();
  const auto is_it = [&worker](const NodeInfo& node) { return node.id == worker; };
  if (nodes && std::ranges::none_of(*nodes, is_it)) return {};
  return reply.failure();
}

Result<void> JobClient::events(const EventOptions& options,
                               const std::function<bool(const ClusterEvent&)>& each) {
  v1::WatchEventsRequest request;
  const Result<JobId> id = impl_->id_of(options.job, *this);
  request.set_job(id ? *id : options.job);  // the journal knows forgotten jobs, too
  request.set_worker_id(options.worker);
  request.set_since_unix_ms(options.since_unix_ms);
  request.set_after_number(options.after);
  request.set_follow(options.follow);
  bool wanted = true;
  const auto read = [&]() -> Connection::Try {
    grpc::ClientContext context;
    const auto stream = impl_->connection_->stub().WatchEvents(&context, request);
    bool heard = false;
    for (v1::Event message; wanted && stream->Read(&message); heard = true) {
      // A stream that is begun again goes on behind this event.
      request.set_after_number(message.number());
      wanted = each(from_proto(message));
    }
    if (!wanted) context.TryCancel();
    const grpc::Status status = stream->Finish();
    return {wanted ? status : grpc::Status::OK, heard};
  };
  return impl_->connection_->keep_up(read, impl_->connection_->options().on_link,
                                     [&] { return wanted; });
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
  const Result<JobId> id = impl_->id_of(job, *this);
  if (!id) return id.failure();
  v1::GetResultsRequest request;
  impl_->name(&request, *id);
  if (options.first_task) request.set_first_task(*options.first_task);
  request.set_follow(options.follow);
  request.set_all_ended(options.all_ended);
  request.set_inputs(options.inputs);
  request.set_only_failed(options.only_failed);
  ResultPieces pieces(request, each);
  return impl_->connection_->keep_up([&] { return pieces.read(impl_->connection_->stub()); },
                                     impl_->connection_->options().on_link,
                                     [&] { return pieces.wanted(); });
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
  for (const uint64_t task : options.only_tasks) request.add_only_tasks(task);
  return start_watch(impl_->connection_, request, impl_->lives_);
}

}  // namespace longhaul
