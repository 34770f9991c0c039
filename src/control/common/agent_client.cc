#include "longhaul/control/agent_client.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <utility>

#include "control/common/channel.h"
#include "control/common/grpc_error.h"
#include "control/common/progress.h"
#include "longhaul/base/strings.h"
#include "longhaul/base/version.h"
#include "longhaul/v1/agent_service.grpc.pb.h"

namespace longhaul {
namespace {

constexpr milliseconds kCallTimeout{30'000};
// The worker ends a wait at its timeout; the call's own deadline only guards against a stuck
// worker.
constexpr milliseconds kWaitSlack{5'000};

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

}  // namespace

struct AgentClient::Impl {
  std::string address;
  std::string token;
  std::unique_ptr<v1::AgentService::Stub> stub;

  template <typename Request, typename Reply>
  using Method = grpc::Status (v1::AgentService::Stub::*)(grpc::ClientContext*, const Request&,
                                                          Reply*);

  template <typename Request, typename Reply>
  Result<Reply> call(Method<Request, Reply> method, const Request& request,
                     milliseconds timeout = kCallTimeout) {
    grpc::ClientContext context;
    context.AddMetadata("longhaul-token", token);
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    Reply reply;
    const grpc::Status status = (stub.get()->*method)(&context, request, &reply);
    if (!status.ok()) return to_failure(status, str_cat("worker's agent at ", address));
    return reply;
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

AgentClient::AgentClient(std::string address, std::string token) : impl_(std::make_unique<Impl>()) {
  impl_->address = std::move(address);
  impl_->token = std::move(token);
  impl_->stub = v1::AgentService::NewStub(make_channel(impl_->address));
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

Result<bool> AgentClient::report(const RankProgress& progress) {
  const Result<v1::ReportReply> reply =
      impl_->call(&v1::AgentService::Stub::Report, to_proto(progress));
  if (!reply) return reply.failure();
  return reply->stop_requested();
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
