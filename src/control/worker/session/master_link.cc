#include "control/worker/session/master_link.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/log.h"
#include "longhaul/base/strings.h"
#include "rpc/grpc_runtime.h"

namespace longhaul {
namespace {

// How long one try may take, from the first packet to the answer to Register.
constexpr milliseconds kAttemptLimit{10'000};
// How long the master may take to close the stream when this worker has taken its leave.
constexpr milliseconds kFarewellLimit{2'000};

}  // namespace

milliseconds reconnect_delay(int failed_tries, double fraction) {
  const double full = std::min(3000.0, 100.0 * std::pow(1.5, failed_tries - 1));
  return milliseconds(static_cast<int64_t>(full * (1 - fraction / 2)));
}

MasterLink::MasterLink(std::shared_ptr<EventLoop> loop, std::string address,
                       const Credentials& credentials, milliseconds away_timeout, Listener listener)
    : loop_(std::move(loop)),
      address_(std::move(address)),
      credentials_(credentials),
      away_timeout_(away_timeout),
      listener_(std::move(listener)) {}

void MasterLink::start() {
  set_up_grpc();
  watch_absence();
  connect();
}

void MasterLink::watch_absence() {
  away_timer_ = loop_->after(away_timeout_, [this] { listener_.away(); });
}

void MasterLink::connect() {
  MasterStream::Listener listener;
  listener.message = [this](v1::MasterMessage message) { on_message(std::move(message)); };
  listener.closed = [this](const Failure& failure) { on_closed(failure); };
  stream_ = std::make_unique<MasterStream>(loop_, address_, credentials_, std::move(listener));
  v1::WorkerMessage message;
  // First on every stream. It is made for each try, because its inventory says what runs here now.
  *message.mutable_register_() = listener_.make_register();
  stream_->send(std::move(message));
  stream_open_ = true;
  attempt_timer_ = loop_->after(kAttemptLimit, [this] { stream_->cancel(); });
}

void MasterLink::send(v1::WorkerMessage message) {
  // Before the answer to Register nothing else may be sent: the master does not know who speaks.
  if (up_) stream_->send(std::move(message));
}

void MasterLink::on_message(v1::MasterMessage message) {
  last_heard_ = std::chrono::steady_clock::now();
  if (message.has_registered()) {
    on_registered(message.registered());
  } else if (message.has_refused()) {
    ending_ = true;
    listener_.refused(message.refused().reason());
  } else if (message.has_keep_alive() && !up_) {
    // The master lives and will answer when its full disk takes the registration: this try goes on.
    loop_->cancel(attempt_timer_);
    attempt_timer_ = loop_->after(kAttemptLimit, [this] { stream_->cancel(); });
  } else if (message.has_heartbeat()) {
    if (up_) listener_.heartbeat_answered();
  } else if (up_) {
    listener_.message(std::move(message));
  }
}

void MasterLink::on_registered(const v1::Registered& registered) {
  loop_->cancel(attempt_timer_);
  loop_->cancel(away_timer_);
  failed_tries_ = 0;
  last_complaint_.clear();
  if (registered.heartbeat_interval_ms() > 0) {
    heartbeat_interval_ = milliseconds(registered.heartbeat_interval_ms());
  }
  silence_limit_ = std::max(milliseconds(registered.lease_ms()), 3 * heartbeat_interval_);
  // The listener sends again what may have been lost before the first heartbeat goes out: so the
  // answer to that heartbeat confirms all of it.
  up_ = true;
  listener_.registered(registered);
  watch_silence();
}

void MasterLink::watch_silence() {
  if (!up_) return;
  const auto silence = std::chrono::steady_clock::now() - last_heard_;
  if (silence > silence_limit_) {
    complain(str_cat("master at ", address_, ": silent for ",
                     format_seconds(std::chrono::duration<double>(silence).count())));
    // on_closed() follows, and dials again.
    stream_->cancel();
    return;
  }
  send_heartbeat();
  heartbeat_timer_ = loop_->after(heartbeat_interval_, [this] { watch_silence(); });
}

void MasterLink::send_heartbeat() {
  if (!up_) return;
  v1::WorkerMessage message;
  message.mutable_heartbeat()->set_sequence(++heartbeat_sequence_);
  stream_->send(std::move(message));
  listener_.heartbeat_sent();
}

void MasterLink::go_down() {
  if (!up_) return;
  up_ = false;
  loop_->cancel(heartbeat_timer_);
  // Counted anew from each loss.
  watch_absence();
  listener_.lost();
}

void MasterLink::on_closed(const Failure& failure) {
  stream_open_ = false;
  loop_->cancel(attempt_timer_);
  go_down();
  if (ending_) {
    loop_->cancel(away_timer_);
    if (done_) std::exchange(done_, {})();
    return;
  }
  complain(failure.message);
  ++failed_tries_;
  const double fraction = std::uniform_real_distribution<double>(0, 1)(random_);
  attempt_timer_ = loop_->after(reconnect_delay(failed_tries_, fraction), [this] { connect(); });
}

void MasterLink::finish(std::function<void()> done) {
  ending_ = true;
  done_ = std::move(done);
  loop_->cancel(attempt_timer_);
  if (up_) {
    stream_->finish();
    attempt_timer_ = loop_->after(kFarewellLimit, [this] { stream_->cancel(); });
  } else if (stream_open_) {
    stream_->cancel();
  } else {
    std::exchange(done_, {})();
  }
}

void MasterLink::complain(const std::string& why) {
  if (why == last_complaint_) return;
  last_complaint_ = why;
  log(LogLevel::kWarning, "worker", why, "; trying again");
}

}  // namespace longhaul
