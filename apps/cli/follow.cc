#include "apps/cli/follow.h"

#include <csignal>
#include <thread>
#include <utility>

#include "apps/cli/exit_codes.h"
#include "apps/cli/failure_text.h"
#include "apps/cli/hang_text.h"
#include "apps/cli/line_assembler.h"
#include "apps/cli/progress.h"
#include "apps/common/flags.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

// How often signals, the clock and the live line are looked at.
constexpr milliseconds kTick{100};
// After the first Ctrl-C: the time for a second one.
constexpr milliseconds kSecondThoughts{3'000};
constexpr milliseconds kRetryPause{300};
constexpr double kLineSeconds = 0.2;
// A master that says nothing for so long is asked whether it is still there.
constexpr double kSilenceSeconds = 15;

class Follower {
 public:
  Follower(JobClient& client, std::string job, const FollowOptions& options,
           const SignalCounter& signals, Screen& screen)
      : client_(client),
        job_(std::move(job)),
        options_(options),
        signals_(signals),
        screen_(screen) {}

  Followed run() {
    begin_watch();
    while (!exit_code_) {
      answer_signals();
      if (detach_at_ && clock_.now() >= *detach_at_) detach();
      if (exit_code_) break;
      take_event();
      if (screen_.broken() && !options_.stop_on_signal) finish(128 + SIGPIPE);
    }
    watch_.reset();
    return {*exit_code_, complete_, status_};
  }

 private:
  const std::string& name() const { return status_.id.empty() ? job_ : status_.id; }

  void begin_watch() {
    watch_ = client_.watch(name(), options_.watch);
    last_event_ = clock_.now();
  }

  void take_event() {
    const std::optional<WatchEvent> event = watch_->next_until(clock_.now() + kTick);
    if (event) {
      last_event_ = clock_.now();
      std::visit([this](const auto& one) { on(one); }, *event);
    } else if (seconds_between(last_event_, clock_.now()) > kSilenceSeconds) {
      ask_for_life();
    }
    if (!exit_code_) show_progress();
  }

  void on(const JobStatus& status) {
    if (!status_.id.empty() && status.generation > status_.generation) say_restart(status);
    status_ = status;
    say_hang();
    if (status.state == JobState::kPending && status.reason != said_reason_) {
      said_reason_ = status.reason;
      if (!status.reason.empty() && options_.progress) {
        screen_.message(str_cat("job ", status.id, " is pending: ", status.reason));
      }
    }
    if (const std::optional<Progress> progress = progress_of(status)) {
      time_left_.observe(*progress, clock_.now());
    }
  }

  // Each thing once: that nothing moves, what the one behind is doing, that it goes on.
  void say_hang() {
    if (!options_.progress) return;
    const Hang now = status_.hang.value_or(Hang());
    const Hang said = std::exchange(said_hang_, now);
    if (now.message.empty()) {
      if (!said.message.empty() && !has_ended(status_.state)) {
        screen_.message(str_cat("job ", name(), " goes on"));
      }
      return;
    }
    if (now.message != said.message) screen_.message(hang_line(status_, clock_.unix_ms()));
    const bool news = now.stack != said.stack || now.process_state != said.process_state;
    if (news) screen_.text(hang_details(status_));
  }

  void say_restart(const JobStatus& status) {
    if (!options_.progress || status.earlier_failures.empty()) return;
    screen_.message(str_cat("job ", status.id, ": ", status.earlier_failures.back().message,
                            "; forming the gang again, attempt ", status.generation));
  }

  void on(const OutputPiece& piece) { screen_.output(lines_.add(piece), piece.is_stderr); }

  void on(const OutputDropped& dropped) {
    screen_.message(
        str_cat(format_bytes(dropped.bytes), " of older output are no longer kept by the master"));
  }

  void on(const WatchEnded& ended) {
    if (ended.failure) {
      on_broken_watch(*ended.failure);
      return;
    }
    flush_lines();
    screen_.show_line("");
    // Nobody is kept waiting for what may still come of an attempt that is over.
    const bool over = options_.watch.attempt != 0 && options_.watch.attempt < status_.generation;
    complete_ = !options_.watch.follow || over || has_ended(status_.state);
    if (!options_.watch.follow || over) {
      finish(0);
    } else if (!complete_) {
      on_broken_watch({ErrorKind::kUnavailable, "the master ended the watch"});
    } else {
      say_the_end();
      // What was told to stop and still got its work done in time has succeeded.
      const bool interrupted = stop_asked_ && status_.state != JobState::kSucceeded;
      finish(interrupted ? 128 + signals_.first() : exit_code_of(status_));
    }
  }

  void say_the_end() {
    if (!options_.progress) return;
    if (!screen_.live() && progress_of(status_)) {
      screen_.message(render_progress(status_, std::nullopt, clock_.unix_ms()));
    }
    if (status_.failure && status_.state == JobState::kFailed) {
      screen_.text(render_failure(status_, options_.has_master));
    } else if (status_.state != JobState::kSucceeded) {
      screen_.message(str_cat("job ", name(), " ", to_string(status_.state),
                              status_.reason.empty() ? "" : ": " + status_.reason));
    } else if (screen_.live()) {
      screen_.message(render_progress(status_, std::nullopt, clock_.unix_ms()));
    }
  }

  void flush_lines() {
    const auto [to_stdout, to_stderr] = lines_.flush();
    screen_.output(to_stdout, false);
    screen_.output(to_stderr, true);
  }

  // --- The master went away --------------------------------------------------------------------

  void on_broken_watch(const Failure& failure) {
    const bool never_there = status_.id.empty();
    if (failure.kind == ErrorKind::kInvalid || failure.kind == ErrorKind::kDenied || never_there) {
      screen_.show_line("");
      finish(report_failure(failure, screen_));
      return;
    }
    screen_.message(str_cat("lost the master at ", client_.address(), " (", failure.message,
                            "); trying again for ", options_.retry_for.count() / 1000, " s"));
    find_master_again();
  }

  void find_master_again() {
    const Instant give_up = clock_.now() + options_.retry_for;
    const int signals_before = signals_.count();
    while (clock_.now() < give_up && signals_.count() == signals_before) {
      std::this_thread::sleep_for(kRetryPause);
      const Result<JobStatus> status = client_.get(name());
      if (status) {
        screen_.message(str_cat("the master at ", client_.address(), " is back"));
        begin_watch();
        return;
      }
      if (status.failure().kind == ErrorKind::kInvalid) {
        give_up_on_master(str_cat("the master at ", client_.address(), " came back without job ",
                                  name(), " (", status.failure().message,
                                  "): the workers stop its ranks when they find that master"));
        return;
      }
    }
    give_up_on_master(
        str_cat("the master at ", client_.address(), " is gone. The ranks of job ", name(),
                " keep running under their workers, which stop them if no master comes back"
                " within their --master-timeout (an hour unless set)"));
  }

  void give_up_on_master(const std::string& why) {
    flush_lines();
    screen_.show_line("");
    screen_.message(why);
    finish(kExitMasterUnreachable);
  }

  // A stopped or unreachable master leaves the stream open and silent.
  void ask_for_life() {
    last_event_ = clock_.now();
    const Result<JobStatus> status = client_.get(name());
    if (status || status.failure().kind == ErrorKind::kInvalid) return;
    watch_->cancel();
    on_broken_watch(status.failure());
  }

  // --- The user wants out ------------------------------------------------------------------------

  void answer_signals() {
    const int count = signals_.count();
    if (count == signals_answered_) return;
    signals_answered_ = count;
    if (!options_.stop_on_signal) {
      flush_lines();
      finish(128 + signals_.first());
    } else if (count == 1 && options_.detach_first && signals_.first() == SIGINT) {
      detach_at_ = clock_.now() + kSecondThoughts;
      screen_.message(str_cat("leaving job ", name(), " to run on in ",
                              kSecondThoughts.count() / 1000, " s (Ctrl-C once more stops it)"));
    } else if (!stop_asked_) {
      detach_at_.reset();
      stop_asked_ = true;
      screen_.message(str_cat("stopping job ", name(), " (once more kills it at once)"));
      ask_to_stop({});
    } else {
      screen_.message(str_cat("killing job ", name()));
      ask_to_stop({.force = true});
    }
  }

  void detach() {
    flush_lines();
    screen_.show_line("");
    screen_.message(str_cat("job ", name(), " runs on: `longhaul logs ", name(),
                            " -f` shows it, `longhaul stop ", name(), "` ends it"));
    finish(128 + SIGINT);
  }

  void ask_to_stop(const StopOptions& options) {
    const Result<JobStatus> stopped = client_.stop(name(), options);
    if (stopped) return;
    screen_.message(str_cat("could not stop job ", name(), ": ", stopped.failure().message));
  }

  // --- The live line -----------------------------------------------------------------------------

  void show_progress() {
    if (!options_.progress || status_.id.empty() || has_ended(status_.state)) return;
    const Instant now = clock_.now();
    const std::optional<Progress> progress = progress_of(status_);
    if (screen_.live()) {
      if (seconds_between(line_at_, now) < kLineSeconds) return;
      line_at_ = now;
      screen_.show_line(line(progress));
    } else if (status_.state == JobState::kRunning && pacer_.due(progress, now)) {
      screen_.message(line(progress));
    }
  }

  std::string line(const std::optional<Progress>& progress) const {
    return render_progress(status_, progress ? time_left_.seconds(*progress) : std::nullopt,
                           clock_.unix_ms());
  }

  void finish(int exit_code) { exit_code_ = exit_code; }

  JobClient& client_;
  const std::string job_;
  const FollowOptions options_;
  const SignalCounter& signals_;
  Screen& screen_;
  const SystemClock clock_;
  std::unique_ptr<JobWatch> watch_;
  LineAssembler lines_;
  TimeLeft time_left_;
  PlainPacer pacer_;
  JobStatus status_;
  std::string said_reason_;
  Hang said_hang_;
  Instant last_event_;
  Instant line_at_;
  int signals_answered_ = 0;
  bool stop_asked_ = false;
  std::optional<Instant> detach_at_;
  bool complete_ = false;
  std::optional<int> exit_code_;
};

}  // namespace

Followed follow(JobClient& client, const std::string& job, const FollowOptions& options,
                const SignalCounter& signals, Screen& screen) {
  return Follower(client, job, options, signals, screen).run();
}

int exit_code_of(const JobStatus& job) {
  if (job.state == JobState::kSucceeded) return 0;
  if (job.failure && job.failure->failure_class == FailureClass::kNoRoom) return kExitTryLater;
  if (job.exit_code != 0) return job.exit_code;
  return job.state == JobState::kStopped ? 128 + SIGTERM : 1;
}

int report_failure(const Failure& failure, Screen& screen) {
  screen.message(failure.message);
  switch (failure.kind) {
    case ErrorKind::kUnavailable:
      screen.text(
          "  is longhaul-master running? start it with `longhaul-master`, or name another with "
          "--master HOST:PORT or LONGHAUL_MASTER\n");
      return kExitMasterUnreachable;
    case ErrorKind::kDeadline:
    case ErrorKind::kPeerLost:
      return kExitMasterUnreachable;
    case ErrorKind::kInvalid:
      return kExitUsage;
    case ErrorKind::kExhausted:
      return kExitTryLater;
    case ErrorKind::kDenied:
      return kExitDenied;
    default:
      return kExitInternal;
  }
}

}  // namespace longhaul::cli
