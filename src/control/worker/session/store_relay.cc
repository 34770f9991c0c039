#include "control/worker/session/store_relay.h"

#include <time.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "control/worker/output/last_lines.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// The master answers a wait when its timeout is over. The timer here comes a little later, for a
// master that does not answer at all.
constexpr milliseconds kAnswerSlack{2'000};

milliseconds until(Instant deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  return std::max(milliseconds(0), std::chrono::ceil<milliseconds>(left));
}

// Ids must be above those of every worker that was here before under the same incarnation, because
// the master takes two calls with one id for the same call. An incarnation does not outlive a boot
// of the host, and CLOCK_BOOTTIME counts from the boot and is never set. The shift leaves room for
// 1,024 ids a microsecond, more than any worker can use.
uint64_t first_call_id() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  const auto microseconds =
      static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1'000;
  return microseconds << 10;
}

}  // namespace

v1::StoreReply to_store_reply(const Failure& failure) {
  v1::StoreReply reply;
  reply.set_error_kind(std::string(to_string(failure.kind)));
  reply.set_error(failure.message);
  return reply;
}

StoreRelay::StoreRelay(EventLoop& loop, std::string master_address, Send send)
    : loop_(loop),
      master_(std::move(master_address)),
      send_(std::move(send)),
      last_id_(first_call_id()) {
  // There is no session yet: a call that comes before the first one waits as in any absence.
  disconnected();
}

StoreRelay::~StoreRelay() {
  fail_all({ErrorKind::kUnavailable, "the worker has ended"});
}

void StoreRelay::call(uint64_t id, const LaunchId& launch, uint32_t rank, v1::StoreRequest request,
                      Answer answer) {
  if (const auto before = calls_.find(id); before != calls_.end()) {
    // The rank asks again where the first try of the call was broken off, and nobody reads that
    // answer. The old entry goes first, since the new one has the same id.
    finish(before, to_store_reply({ErrorKind::kUnavailable, "asked again"}));
  }
  const milliseconds timeout(request.timeout_ms());
  const Instant deadline = std::chrono::steady_clock::now() + timeout;
  Call& call = calls_[id] = Call{launch, rank, std::move(request), std::move(answer), deadline};
  call.timer = loop_.after(timeout + kAnswerSlack, [this, id] { timed_out(id); });
  if (connected_) {
    send(id, call);
  } else if (away_long_) {
    // A master that has been away for long is not waited for once more by each new call.
    away_too_long();
  }
}

void StoreRelay::send(uint64_t id, Call& call) {
  call.sent = true;
  v1::WorkerMessage message;
  v1::StoreCall& out = *message.mutable_store_call();
  out.set_call_id(id);
  out.set_job_id(call.launch.job);
  out.set_generation(call.launch.generation);
  out.set_life(call.launch.life);
  out.set_rank(call.rank);
  *out.mutable_request() = call.request;
  out.mutable_request()->set_timeout_ms(static_cast<uint32_t>(until(call.deadline).count()));
  send_(std::move(message));
}

void StoreRelay::answer(const v1::StoreAnswer& answer) {
  const auto call = calls_.find(answer.call_id());
  if (call != calls_.end()) finish(call, answer.reply());
}

void StoreRelay::connected() {
  connected_ = true;
  away_long_ = false;
  loop_.cancel(away_timer_);
  // Also those that were sent before: the master may have heard them or not. With the same id they
  // are not done twice.
  for (auto& [id, call] : calls_) send(id, call);
}

void StoreRelay::disconnected() {
  connected_ = false;
  loop_.cancel(away_timer_);
  away_timer_ = loop_.after(kMasterPatience, [this] {
    away_long_ = true;
    away_too_long();
  });
}

void StoreRelay::away_too_long() {
  fail_all({ErrorKind::kUnavailable,
            str_cat("master at ", master_, ": not reached for ",
                    format_seconds(static_cast<double>(kMasterPatience.count()) / 1000),
                    " or longer; the rendezvous store is there")});
}

void StoreRelay::timed_out(uint64_t id) {
  const auto call = calls_.find(id);
  if (call == calls_.end()) return;
  const v1::StoreRequest& request = call->second.request;
  const bool shards = request.operation() == v1::StoreRequest::SHARDS;
  const std::string key = shards                   ? to_utf8(request.shards().dataset())
                          : request.keys().empty() ? ""
                                                   : to_utf8(request.keys(0));
  finish(call, to_store_reply(
                   {ErrorKind::kDeadline,
                    str_cat(shards ? "shards" : "store", ": no answer from the master at ", master_,
                            " about '", key, "' within ", request.timeout_ms(), " ms")}));
}

void StoreRelay::fail_launch(const LaunchId& launch, const Failure& failure) {
  fail_where([&](const Call& call) { return call.launch == launch; }, failure);
}

void StoreRelay::fail_rank(const LaunchId& launch, uint32_t rank, const Failure& failure) {
  fail_where([&](const Call& call) { return call.launch == launch && call.rank == rank; }, failure);
}

void StoreRelay::fail_all(const Failure& failure) {
  fail_where([](const Call&) { return true; }, failure);
}

void StoreRelay::fail_where(const std::function<bool(const Call&)>& matches,
                            const Failure& failure) {
  // Ids first, because finish() erases from the map.
  std::vector<uint64_t> ids;
  for (const auto& [id, call] : calls_) {
    if (matches(call)) ids.push_back(id);
  }
  for (const uint64_t id : ids) finish(calls_.find(id), to_store_reply(failure));
}

void StoreRelay::finish(Calls::iterator call, v1::StoreReply reply) {
  loop_.cancel(call->second.timer);
  const Answer answer = std::move(call->second.answer);
  calls_.erase(call);
  answer(std::move(reply));
}

}  // namespace longhaul
