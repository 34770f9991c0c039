#include "longhaul/agent/client/agent_client.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "agent/client/coordinator_proto.h"
#include "agent/client/shard_proto.h"
#include "base/random_id.h"
#include "longhaul/base/strings.h"
#include "longhaul/base/version.h"
#include "longhaul/v1/agent_service.grpc.pb.h"
#include "rpc/channel.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

constexpr milliseconds kCallTimeout{30'000};
// The master ends a wait at its timeout, and the worker 2 s later should the master not answer. The
// call's own deadline comes after both and only guards against a stuck worker.
constexpr milliseconds kWaitSlack{5'000};
// Between two tries while the worker takes calls but ends.
constexpr milliseconds kRetryPause{20};

Instant now() {
  return std::chrono::steady_clock::now();
}

// gRPC takes deadlines by the wall clock. Each is computed from a monotonic one right before its
// call, so a step of the wall clock disturbs only the call that is under way.
std::chrono::system_clock::time_point wall_time_at(Instant deadline) {
  return std::chrono::system_clock::now() +
         std::chrono::duration_cast<std::chrono::system_clock::duration>(deadline - now());
}

uint32_t to_timeout_ms(milliseconds timeout) {
  constexpr int64_t kMax = std::numeric_limits<uint32_t>::max();
  return static_cast<uint32_t>(std::clamp<int64_t>(timeout.count(), 0, kMax));
}

v1::StoreRequest store_request(v1::StoreRequest::Operation operation,
                               const std::vector<std::string>& keys, milliseconds timeout) {
  v1::StoreRequest request;
  request.set_operation(operation);
  for (const std::string& key : keys) request.add_keys(key);
  request.set_timeout_ms(to_timeout_ms(timeout));
  return request;
}

// Operations for which carrying them out twice differs from once.
bool counts_once(const v1::StoreRequest& request) {
  return request.operation() == v1::StoreRequest::ADD ||
         request.operation() == v1::StoreRequest::COMPARE_SET ||
         request.operation() == v1::StoreRequest::DELETE;
}

// A wait that is repeated after a lost connection ends when the first one would have.
void shorten(v1::StoreRequest& request, Instant deadline) {
  const auto left = deadline - kWaitSlack - now();
  const auto left_ms = std::chrono::ceil<milliseconds>(left);
  request.set_timeout_ms(std::min(request.timeout_ms(), to_timeout_ms(left_ms)));
}
template <typename Request>
void shorten(Request&, Instant) {}

}  // namespace

struct AgentClient::Impl {
  // The last number of a call that counts once. The clients of one rank share its token, and so the
  // worker's record of such calls; each begins at a random multiple of 2^32, so no two use one
  // number.
  std::atomic<uint64_t> last_number{random_number() << 32};
  // All that follows is set before the first call and never changed, and a stub may be used from
  // any thread: so no lock is needed.
  std::string address;
  std::string token;
  milliseconds patience;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::AgentService::Stub> stub;

  template <typename Request, typename Reply>
  using Method = grpc::Status (v1::AgentService::Stub::*)(grpc::ClientContext*, const Request&,
                                                          Reply*);

  // Calls the worker, and calls again when the connection is lost, until it answers, `timeout` is
  // over, or the worker has been away for `patience`. On the caller's thread, which is blocked
  // meanwhile.
  template <typename Request, typename Reply>
  Result<Reply> call(Method<Request, Reply> method, Request request,
                     milliseconds timeout = kCallTimeout) {
    const Instant deadline = now() + timeout;
    Instant give_up = now() + patience;
    const uint64_t number = number_of(request);
    for (bool was_lost = false;; shorten(request, deadline)) {
      // A worker that was killed may be started again, and takes this rank over: its socket is
      // dialled until then. So that a call is repeated safely it carries the same number each time
      // (number_of()).
      if (!channel->WaitForConnected(wall_time_at(std::min(deadline, give_up)))) return gone();
      Reply reply;
      const grpc::Status status = attempt(method, request, &reply, deadline, number);
      if (status.ok()) return reply;
      const Failure failure = to_failure(status, whom());
      // Any other status was said by the worker and is its answer. UNAVAILABLE: the connection
      // broke, or the worker is ending.
      if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return failure;
      // The worker was there until now, so the patience begins only here.
      if (!std::exchange(was_lost, true)) give_up = now() + patience;
      if (now() >= give_up) return failure;
      std::this_thread::sleep_for(kRetryPause);
    }
  }

  template <typename Request, typename Reply>
  grpc::Status attempt(Method<Request, Reply> method, const Request& request, Reply* reply,
                       Instant deadline, uint64_t number) {
    grpc::ClientContext context;
    context.AddMetadata("longhaul-token", token);
    if (number != 0) context.AddMetadata("longhaul-call", std::to_string(number));
    context.set_deadline(wall_time_at(deadline));
    return (stub.get()->*method)(&context, request, reply);
  }

  // The same for every try of a call. The worker keeps it with the number under which the master
  // knows the call, in the rank's ledger, which outlives the worker: the master then recognises the
  // repetition. 0: the call may be carried out twice.
  uint64_t number_of(const v1::StoreRequest& request) {
    return counts_once(request) ? ++last_number : 0;
  }
  template <typename Request>
  uint64_t number_of(const Request&) {
    return 0;
  }

  std::string whom() const { return str_cat("worker's agent at ", address); }
  Failure gone() const {
    return {ErrorKind::kUnavailable,
            str_cat(whom(), ": not there for ",
                    format_seconds(std::chrono::duration<double>(patience).count()))};
  }

  Result<v1::StoreReply> store(const v1::StoreRequest& request) {
    const milliseconds timeout = milliseconds(request.timeout_ms()) + kWaitSlack;
    Result<v1::StoreReply> reply = call(&v1::AgentService::Stub::Store, request, timeout);
    if (reply && !reply->error_kind().empty()) {
      return Failure{error_kind_from(reply->error_kind()), reply->error()};
    }
    return reply;
  }
};

bool AgentClient::in_environment() {
  return std::getenv(kAddressVariable) != nullptr;
}

Result<std::unique_ptr<AgentClient>> AgentClient::from_environment() {
  const char* address = std::getenv(kAddressVariable);
  const char* token = std::getenv(kTokenVariable);
  if (address == nullptr || token == nullptr) {
    return Failure{ErrorKind::kInvalid,
                   str_cat(address == nullptr ? kAddressVariable : kTokenVariable,
                           " is not set: was this process started by longhaul-worker?")};
  }
  if (!std::string_view(address).starts_with("unix:/")) {
    return Failure{ErrorKind::kInvalid,
                   str_cat(kAddressVariable, "='", address, "' is not of the form unix:/path")};
  }
  return std::make_unique<AgentClient>(address, token);
}

AgentClient::AgentClient(std::string address, std::string token, milliseconds patience)
    : impl_(std::make_unique<Impl>()) {
  impl_->address = std::move(address);
  impl_->token = std::move(token);
  impl_->patience = patience;
  impl_->channel = make_channel(impl_->address, plain_text());
  impl_->stub = v1::AgentService::NewStub(impl_->channel);
}

AgentClient::~AgentClient() = default;

Result<Placement> AgentClient::join() {
  v1::JoinRequest request;
  request.set_pid(::getpid());
  request.set_library_version(version());
  Result<v1::JoinReply> reply = impl_->call(&v1::AgentService::Stub::Join, request);
  if (!reply) return reply.failure();
  Placement placement;
  placement.job_id = reply->job_id();
  placement.generation = reply->generation();
  placement.rank = static_cast<Rank>(reply->rank());
  placement.world_size = static_cast<int>(reply->world_size());
  placement.local_rank = static_cast<int>(reply->local_rank());
  placement.local_world_size = static_cast<int>(reply->local_world_size());
  placement.host_address = reply->host_address();
  return placement;
}

Result<void> AgentClient::store_set(const std::string& key, const std::string& value) {
  v1::StoreRequest request = store_request(v1::StoreRequest::SET, {key}, kCallTimeout);
  request.add_values(value);
  const Result<v1::StoreReply> reply = impl_->store(request);
  if (!reply) return reply.failure();
  return {};
}

Result<std::string> AgentClient::store_get(const std::string& key, milliseconds timeout) {
  Result<v1::StoreReply> reply = impl_->store(store_request(v1::StoreRequest::GET, {key}, timeout));
  if (!reply) return reply.failure();
  return std::move(*reply->mutable_value());
}

Result<void> AgentClient::store_wait(const std::vector<std::string>& keys, milliseconds timeout) {
  const Result<v1::StoreReply> reply =
      impl_->store(store_request(v1::StoreRequest::WAIT, keys, timeout));
  if (!reply) return reply.failure();
  return {};
}

Result<int64_t> AgentClient::store_add(const std::string& key, int64_t amount) {
  v1::StoreRequest request = store_request(v1::StoreRequest::ADD, {key}, kCallTimeout);
  request.set_amount(amount);
  const Result<v1::StoreReply> reply = impl_->store(request);
  if (!reply) return reply.failure();
  return reply->amount();
}

Result<bool> AgentClient::store_check(const std::vector<std::string>& keys) {
  const Result<v1::StoreReply> reply =
      impl_->store(store_request(v1::StoreRequest::CHECK, keys, kCallTimeout));
  if (!reply) return reply.failure();
  return reply->amount() != 0;
}

Result<bool> AgentClient::store_delete(const std::string& key) {
  const Result<v1::StoreReply> reply =
      impl_->store(store_request(v1::StoreRequest::DELETE, {key}, kCallTimeout));
  if (!reply) return reply.failure();
  return reply->amount() != 0;
}

Result<std::string> AgentClient::store_compare_set(const std::string& key,
                                                   const std::string& expected,
                                                   const std::string& desired) {
  v1::StoreRequest request = store_request(v1::StoreRequest::COMPARE_SET, {key}, kCallTimeout);
  request.add_values(expected);
  request.add_values(desired);
  Result<v1::StoreReply> reply = impl_->store(request);
  if (!reply) return reply.failure();
  return std::move(*reply->mutable_value());
}

Result<ShardAnswer> AgentClient::exchange_shards(const ShardExchange& exchange) {
  v1::StoreRequest request = store_request(v1::StoreRequest::SHARDS, {}, kCallTimeout);
  *request.mutable_shards() = to_proto(exchange);
  const Result<v1::StoreReply> reply = impl_->store(request);
  if (!reply) return reply.failure();
  return from_proto(reply->shards());
}

Result<ReportAnswer> AgentClient::report(const RankProgress& progress) {
  const Result<v1::ReportReply> reply =
      impl_->call(&v1::AgentService::Stub::Report, to_proto(progress));
  if (!reply) return reply.failure();
  return ReportAnswer{reply->stop_requested(), reply->stack_wanted()};
}

Result<void> AgentClient::report_fault(const RankFault& fault) {
  const Result<v1::FaultReply> reply =
      impl_->call(&v1::AgentService::Stub::ReportFault, to_proto(fault));
  if (!reply) return reply.failure();
  return {};
}

Result<void> AgentClient::leave() {
  const Result<v1::LeaveReply> reply =
      impl_->call(&v1::AgentService::Stub::Leave, v1::LeaveRequest());
  if (!reply) return reply.failure();
  return {};
}

}  // namespace longhaul
