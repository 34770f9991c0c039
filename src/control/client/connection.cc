#include "control/client/connection.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "longhaul/base/strings.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

// Between two tries, so that a master that refuses at once is not asked without a pause.
constexpr milliseconds kPause{100};
// A dial is waited for in steps of this length, and between them the caller is asked whether it
// still wants it.
constexpr milliseconds kLook{200};
// A stream that lived so long was accepted by a master that is well, even if nothing came on it:
// the patience with its next absence begins anew.
constexpr double kHeldSeconds = 1;

// The master, or the way to it, went away: another try may fare better.
bool went_away(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::CANCELLED:  // not by us: whoever does that asks no further
    case grpc::StatusCode::ABORTED:
      return true;
    case grpc::StatusCode::UNKNOWN:
      return status.error_message() == "Stream removed";  // so gRPC says it at times
    default:
      return false;
  }
}

// "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect
// to remote host: Connection refused": only the end tells people something.
std::string in_short(std::string reason) {
  constexpr std::string_view kLead = "Failed to connect to remote host: ";
  constexpr std::string_view kLongLead =
      "failed to connect to all addresses; last error: UNKNOWN: ";
  if (const size_t at = reason.rfind(kLead); at != std::string::npos) {
    reason = reason.substr(at + kLead.size());
    if (!reason.empty() && reason[0] == 'C') reason[0] = 'c';
  } else if (reason.starts_with(kLongLead)) {
    reason = reason.substr(kLongLead.size());
  }
  if (reason == "keepalive watchdog timeout") reason = "it is silent";
  return reason;
}

}  // namespace

Failure master_failure(const grpc::Status& status, const std::string& whom) {
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    return {ErrorKind::kDeadline, str_cat("no answer from the ", whom, " within the time allowed")};
  }
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) {
    return {to_failure(status, "").kind, status.error_message()};
  }
  return {ErrorKind::kUnavailable,
          str_cat("cannot reach the ", whom, ": ", in_short(status.error_message()))};
}

Connection::Connection(std::string address, ClientOptions options)
    : address_(std::move(address)),
      options_(std::move(options)),
      channel_(make_channel(address_, options_.credentials, options_.silence)),
      stub_(v1::JobService::NewStub(channel_)) {}

Connection::Dialled Connection::dial(WallTime deadline) {
  for (bool tried = false;;) {
    const grpc_connectivity_state state = channel_->GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY) {
      met_ = true;
      return Dialled::kConnected;
    }
    // The channel may still be in the state of an earlier dial, whose failure says nothing about
    // this one: so it is looked at twice.
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE && tried && !met_) return Dialled::kRefused;
    tried = true;
    if (!channel_->WaitForStateChange(state, deadline)) return Dialled::kNoAnswer;
  }
}

bool Connection::again(const grpc::Status& status, WallTime deadline) const {
  if (!went_away(status) || !met_) return false;
  if (std::chrono::system_clock::now() + kPause >= deadline) return false;
  std::this_thread::sleep_for(kPause);
  return true;
}

// Where time ran out in the end, the failure of the try before says more: why the master went away.
const grpc::Status& Connection::telling(const grpc::Status& status,
                                        const std::optional<grpc::Status>& before) {
  const bool late = status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
  return late && before ? *before : status;
}

Connection::Dialled Connection::dial_while(Instant give_up, const std::function<bool()>& wanted) {
  Dialled dialled = Dialled::kNoAnswer;
  while (dialled == Dialled::kNoAnswer && wanted() && clock_.now() < give_up) {
    dialled = dial(std::chrono::system_clock::now() + kLook);
  }
  return dialled;
}

Result<void> Connection::keep_up(const std::function<Try()>& attempt, const Tell& tell,
                                 const std::function<bool()>& wanted) {
  if (dial_while(clock_.now() + options_.call_timeout, wanted) == Dialled::kNoAnswer) {
    return master_failure({grpc::StatusCode::DEADLINE_EXCEEDED, ""}, whom());
  }
  for (std::optional<Instant> give_up;;) {
    const Instant begun = clock_.now();
    const Try ended = attempt();
    if (ended.status.ok()) return {};
    const Failure failure = master_failure(ended.status, whom());
    const bool worth_it = options_.patience.count() > 0 && went_away(ended.status) && met_;
    if (!worth_it || !wanted()) return failure;
    // Each absence has its own patience. A stream that broke at once was none, so the clock of the
    // absence before goes on.
    if (ended.heard || seconds_between(begun, clock_.now()) > kHeldSeconds) give_up.reset();
    if (!give_up) {
      give_up = clock_.now() + options_.patience;
      if (tell) tell(failure);
    }
    std::this_thread::sleep_for(kPause);
    if (dial_while(*give_up, wanted) != Dialled::kConnected) return failure;
    if (tell) tell(std::nullopt);
  }
}

}  // namespace longhaul
