#include "apps/cli/follow/follow.h"

#include <csignal>
#include <utility>

#include "apps/cli/commands/exit_codes.h"
#include "apps/cli/follow/line_assembler.h"
#include "apps/cli/follow/progress.h"
#include "apps/cli/follow/shown.h"
#include "apps/cli/text/failure_text.h"
#include "apps/cli/text/hang_text.h"
#include "apps/cli/text/terminal_text.h"
#include "apps/common/flags.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

// How often signals, the clock and the live line are looked at.
constexpr milliseconds kTick{100};
// After the first Ctrl-C: the time for a second one.
constexpr milliseconds kSecondThoughts{3'000};
constexpr double kLineSeconds = 0.2;
// How long a rank's unfinished line (a progress bar) takes the place of the job's.
constexpr double kPictureSeconds = 2;

// One loop on the caller's thread: what signals ask for, then one event of the watch, then the
// screen. The watch reads on a thread of its own into a mailbox of bounded size, so a terminal that
// is slow holds up the master's stream, and never this process's memory.
class Follower {
 public:
  Follower(JobClient& client, MasterFlags master, std::string job, const FollowOptions& options,
           const SignalCounter& signals, Screen& screen)
      : client_(client),
        master_(std::move(master)),
        job_(std::move(job)),
        options_(options),
        signals_(signals),
        screen_(screen) {
    if (options_.tail) tail_.emplace(*options_.tail);
  }

  Followed run() {
    begin_watch();
    while (!exit_code_) {
      answer_signals();
      if (detach_at_ && clock_.now() >= *detach_at_) leave(SIGINT);
      if (exit_code_) break;
      take_event();
      look_at_output();
    }
    // Ends the watch's reading thread and the call: the master need not send what nobody will look
    // at.
    watch_.reset();
    const int error = screen_.output_error();
    if (*exit_code_ == 0 && error != 0) exit_code_ = OutputError(error).exit_code();
    return {*exit_code_, complete_, status_};
  }

 private:
  const std::string& name() const { return status_.id.empty() ? job_ : status_.id; }

  void begin_watch() {
    WatchOptions watch = options_.watch;
    // --tail: first all that the master has is read to its end, so that the last lines are known.
    // Then a second watch follows; what it brings once more is dropped by offset (LineAssembler).
    if (collecting()) watch.follow = false;
    watch_ = client_.watch(name(), watch);
  }

  void take_event() {
    const std::optional<WatchEvent> event = watch_->next_until(clock_.now() + kTick);
    if (event) std::visit([this](const auto& one) { on(one); }, *event);
    if (!exit_code_) show_progress();
  }

  // stdout takes nothing more. A command that only shows a job ends with that. `run` and `map` go
  // on, because they still have to exit as the job does.
  void look_at_output() {
    if (exit_code_ || screen_.output_error() == 0) return;
    if (!options_.stop_on_signal) throw OutputError(screen_.output_error());
    if (std::exchange(said_output_error_, true)) return;
    screen_.message(str_cat(OutputError(screen_.output_error()).what(), "; job ", name(),
                            " goes on, `longhaul logs ", name(), "` shows what it prints"));
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
    if (news) screen_.text(hang_details(shown(status_)));
  }

  void say_restart(const JobStatus& status) {
    if (!options_.progress || status.earlier_failures.empty()) return;
    screen_.message(str_cat("job ", status.id, ": ", status.earlier_failures.back().message,
                            "; forming the gang again, attempt ", status.generation));
  }

  void on(const OutputPiece& piece) {
    for (RankLine& line : lines_.add(piece)) take(std::move(line));
    if (!screen_.live()) return;
    // A line that a rank has not ended, such as a progress bar, is shown in the place of the job's
    // own line.
    const std::string picture = terminal_text(lines_.unfinished(piece));
    picture_ = picture.empty() ? "" : str_cat("[", piece.rank, "] ", picture);
    pictured_at_ = clock_.now();
  }

  void take(RankLine line) {
    if (options_.grep && !options_.grep->matches(line.text)) return;
    if (tail_) {
      tail_->add(std::move(line));
    } else {
      show(std::move(line));
    }
  }

  void show(RankLine line) {
    if (screen_.filters(line.is_stderr)) line.text = terminal_text(line.text);
    screen_.output(with_rank(line), line.is_stderr);
  }

  // What the master has so far is all that is read at first.
  bool collecting() const { return tail_.has_value(); }

  void show_tail() {
    LineTail tail = std::move(*tail_);
    tail_.reset();
    for (RankLine& line : tail.take()) show(std::move(line));
  }

  void on(const OutputDropped& dropped) {
    // Of lines that --tail leaves out anyway nobody needs to hear.
    if (collecting()) return;
    screen_.message(
        str_cat(format_bytes(dropped.bytes), " of older output are no longer kept by the master"));
  }

  void on(const WatchEnded& ended) {
    if (ended.failure) return on_lost_watch(*ended.failure);
    if (collecting() && options_.watch.follow) {
      show_tail();
      return begin_watch();
    }
    flush_lines();
    screen_.show_line("");
    // An attempt that is over may still bring output from a worker that was away; nobody is kept
    // waiting for that.
    const bool over = options_.watch.attempt != 0 && options_.watch.attempt < status_.generation;
    complete_ = !options_.watch.follow || over || has_ended(status_.state);
    if (!options_.watch.follow || over) {
      finish(0);
    } else if (!complete_) {
      give_up_on_master(str_cat("the master at ", client_.address(), " ended the watch"));
    } else {
      say_the_end();
      // A job that was told to stop and still finished its work in time has succeeded.
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
    for (RankLine& line : lines_.flush()) take(std::move(line));
    if (collecting()) show_tail();
  }

  // --- The master goes away, and comes back ------------------------------------------------------

  void on(const LinkChanged& changed) {
    lost_ = changed.lost.has_value();
    screen_.message(link_text(master_, changed.lost));
  }

  void on_lost_watch(const Failure& failure) {
    // Nothing was ever seen of the job, or it may not be looked at: an error of the call, not a
    // master that went away.
    if (status_.id.empty() || failure.kind == ErrorKind::kDenied) {
      screen_.show_line("");
      finish(report_failure(failure, screen_));
    } else if (failure.kind == ErrorKind::kInvalid || failure.kind == ErrorKind::kStale) {
      give_up_on_master(str_cat("the master at ", client_.address(), " came back without job ",
                                name(), " (", failure.message,
                                "): the workers stop its ranks when they find that master"));
    } else {
      give_up_on_lost_master();
    }
  }

  void give_up_on_lost_master() {
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

  // --- The user wants out ------------------------------------------------------------------------

  void answer_signals() {
    // count() includes SIGHUPs. Where these leave the job alone they must not count as requests to
    // stop it.
    const bool may_leave = options_.stop_on_signal && options_.detach_first;
    // Read first: a SIGHUP that comes in between is then counted by hangups() alone.
    const int count = signals_.count();
    const int hangups = may_leave ? signals_.hangups() : 0;
    answer_requests(std::max(count - hangups, signals_answered_));
    // Nobody is there any more to think twice.
    if (hangups > 0) leave(SIGHUP);
  }

  void answer_requests(int count) {
    // Looks at the number, not at single signals: two that come within one tick are a first and a
    // second one.
    if (count == signals_answered_) return;
    signals_answered_ = count;
    // The master cannot be asked to stop anything now, so all that is left is to leave.
    if (lost_) {
      give_up_on_lost_master();
    } else if (!options_.stop_on_signal) {
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
      ask_to_stop(/*force=*/false);
    } else {
      screen_.message(str_cat("killing job ", name()));
      ask_to_stop(/*force=*/true);
    }
  }

  void leave(int signal) {
    flush_lines();
    screen_.show_line("");
    if (stop_asked_) {
      screen_.message(str_cat("job ", name(), " is being stopped"));
    } else {
      screen_.message(str_cat("job ", name(), " runs on: `longhaul logs ", name(),
                              " -f` shows it, `longhaul stop ", name(), "` ends it"));
    }
    finish(128 + signal);
  }

  void ask_to_stop(bool force) {
    // Waits for the master's answer; the watch's events wait in the mailbox meanwhile.
    StopOptions options;
    options.force = force;
    options.by.command =
        str_cat(options_.command, signals_.first() == SIGINT ? ", by Ctrl-C" : ", by SIGTERM");
    const Result<JobStatus> stopped = client_.stop(name(), options);
    if (stopped) return;
    screen_.message(str_cat("could not stop job ", name(), ": ", stopped.failure().message));
  }

  // --- The live line -----------------------------------------------------------------------------

  void show_progress() {
    const Instant now = clock_.now();
    if (screen_.live() && !picture_.empty() &&
        seconds_between(pictured_at_, now) < kPictureSeconds) {
      screen_.show_line(picture_);
      return;
    }
    if (!options_.progress || status_.id.empty() || has_ended(status_.state)) {
      screen_.show_line("");
      return;
    }
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

  // run() ends before the next event.
  void finish(int exit_code) { exit_code_ = exit_code; }

  JobClient& client_;
  const MasterFlags master_;
  const std::string job_;
  const FollowOptions options_;
  const SignalCounter& signals_;
  Screen& screen_;
  const SystemClock clock_;
  std::unique_ptr<JobWatch> watch_;
  LineAssembler lines_;
  std::optional<LineTail> tail_;
  std::string picture_;  // of a line that a rank has not ended
  Instant pictured_at_;
  TimeLeft time_left_;
  PlainPacer pacer_;
  JobStatus status_;
  std::string said_reason_;
  Hang said_hang_;
  bool said_output_error_ = false;
  bool lost_ = false;  // the master, for now
  Instant line_at_;
  int signals_answered_ = 0;
  bool stop_asked_ = false;
  std::optional<Instant> detach_at_;
  bool complete_ = false;
  std::optional<int> exit_code_;
};

}  // namespace

Followed follow(JobClient& client, const MasterFlags& master, const std::string& job,
                const FollowOptions& options, const SignalCounter& signals, Screen& screen) {
  return Follower(client, master, job, options, signals, screen).run();
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
    case ErrorKind::kCorrupt:
      return kExitDamaged;
    case ErrorKind::kStale:
      return kExitUsage;
    default:
      return kExitInternal;
  }
}

}  // namespace longhaul::cli
