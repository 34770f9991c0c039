#include "runtime/progress_reporter.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace longhaul {
namespace {

// How long the training thread may take to note its stack.
constexpr milliseconds kStackPatience{2'000};

}  // namespace

double WaitShare::update(int64_t step, double wait_seconds, Instant now) {
  if (started_ && step == step_) return share_;
  const double seconds = seconds_between(since_, now);
  if (started_ && seconds > 0)
    share_ = std::clamp((wait_seconds - wait_seconds_) / seconds, 0.0, 1.0);
  started_ = true;
  step_ = step;
  wait_seconds_ = wait_seconds;
  since_ = now;
  return share_;
}

ProgressReporter::ProgressReporter(std::shared_ptr<Coordinator> coordinator,
                                   std::shared_ptr<Communicator> communicator,
                                   milliseconds interval, std::function<bool()> may_speak)
    : coordinator_(std::move(coordinator)),
      communicator_(std::move(communicator)),
      interval_(interval),
      may_speak_(std::move(may_speak)),
      trainer_(this_thread()),
      thread_("lh-report", [this] { run(); }) {}

ProgressReporter::~ProgressReporter() {
  {
    MutexLock lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void ProgressReporter::update(const TrainingProgress& progress) {
  MutexLock lock(mutex_);
  latest_ = progress;
  trainer_ = this_thread();
}

void ProgressReporter::run() {
  bool closed = false;
  while (!closed) {
    // A stack that the worker asks for is sent at once: it asks because nothing moves.
    if (send()) send(look());
    const Instant next = std::chrono::steady_clock::now() + interval_;
    MutexLock lock(mutex_);
    while (!closed_ && changed_.wait_until(mutex_, next)) {
    }
    closed = closed_;
  }
  send();
}

bool ProgressReporter::send(std::vector<std::string> stack) {
  if (may_speak_ && !may_speak_()) return false;
  RankProgress progress = collect();
  progress.stack = std::move(stack);
  const Result<ReportAnswer> answer = coordinator_->report(progress);
  if (!answer) {
    // The next report is the repeat; a worker that is gone ends this process by its own means.
    log(LogLevel::kDebug, "report", answer.failure().message);
    return false;
  }
  if (answer->stop_requested && !stop_requested_.exchange(true)) {
    log(LogLevel::kInfo, "report", "rank ", communicator_->rank(), " is asked to stop");
  }
  return answer->stack_wanted;
}

std::vector<std::string> ProgressReporter::look() {
  pid_t trainer = 0;
  {
    MutexLock lock(mutex_);
    trainer = trainer_;
  }
  const Result<std::vector<std::string>> stack = stack_of(trainer, kStackPatience);
  return stack ? *stack : std::vector<std::string>{stack.failure().message};
}

RankProgress ProgressReporter::collect() {
  RankProgress progress;
  {
    MutexLock lock(mutex_);
    progress.step = latest_.step;
    progress.total_steps = latest_.total_steps;
    progress.has_loss = latest_.loss.has_value();
    progress.loss = latest_.loss.value_or(0);
    progress.tokens_per_second = latest_.tokens_per_second;
    progress.codec = latest_.codec;
  }
  const TrafficCounts counts = communicator_->traffic().counts();
  progress.communication_share =
      wait_share_.update(progress.step, counts.wait_seconds, std::chrono::steady_clock::now());
  if (progress.codec.empty()) progress.codec = counts.codec;
  progress.bytes_raw = counts.bytes_raw;
  progress.bytes_sent = counts.bytes_sent;
  progress.collective_sequence = counts.operations;
  progress.operation = counts.operation;
  return progress;
}

}  // namespace longhaul
