#include "cluster/jobs/work.h"

#include <algorithm>
#include <utility>

#include "base/capped.h"

namespace longhaul {
namespace {

// Moments that differ by less are the same to people, and not worth a write.
constexpr uint64_t kSameMomentMs = 2'000;

}  // namespace

Work::Work(Site& site, JobRecord record) : site_(site), job_(std::move(record)) {}

void Work::begin() {
  make();
  note(" submitted: ", size(), " of ", spec().command.front());
  happened(EventKind::kJobSubmitted, str_cat(size(), " of ", spec().command.front()));
  changed();
}

void Work::take_up(ClusterMemory& memory, Now now) {
  // The moments at which its ranks did something are not kept, so all of that counts as seen now.
  // The order in which it was seen is kept: new events get numbers above those.
  job_.status.hang.reset();
  for (RankRecord& rank : job_.status.ranks) {
    if (rank.joined()) rank.joined_at = now.instant;
    rank.exited_at = rank.fault_at = rank.progress_at = rank.moved_at = now.instant;
    site_.order = std::max({site_.order, rank.exit_order, rank.fault_order});
  }
  for (const auto& [worker, lost] : job_.lost_workers) {
    site_.order = std::max(site_.order, lost.lost_order);
  }
  restore(memory, now);
  if (ended()) return;
  if (job_.status.unix_ms_started != 0) start_clock(now);
  // Waits begin again from now, so a restart of the master makes them longer and never shorter.
  // return_grace is added because workers have to dial again first.
  const ClusterOptions& options = site_.options;
  if (state() == JobState::kStarting) {
    give_up_at_ = now.instant + options.workers.return_grace + options.prepare_timeout;
  } else if (state() == JobState::kStopping) {
    give_up_at_ =
        now.instant + options.workers.return_grace + job_.stop_grace + options.stop_margin;
  }
  note(" is taken up again: ", to_string(state()));
  if (job_.damage.empty()) return;
  // Some of its rows cannot be read, and going on without them would be guessing.
  const std::string why =
      str_cat("its rows in the master's database cannot be read: ", job_.damage);
  note(": ", why);
  if (state() == JobState::kStopping) return;
  fail({FailureClass::kStateDamaged, std::nullopt, "", why, false}, now);
}

void Work::give_up_waiting(Now now) {
  job_.verdict =
      Verdict{FailureClass::kNoRoom, std::nullopt, "",
              "no room, and the job was asked not to wait: " + job_.status.reason, false};
  advance(JobEvent::kNoRoom, now);
}

void Work::wait(const std::string& reason, uint64_t expected_start) {
  uint64_t& told = job_.status.unix_ms_expected_start;
  const uint64_t moved = std::max(told, expected_start) - std::min(told, expected_start);
  const bool same_moment = moved < kSameMomentMs && (told == 0) == (expected_start == 0);
  // Plans are made up to 50 times a second, and most say the same again.
  if (job_.status.reason == reason && same_moment) return;
  job_.status.reason = reason;
  told = expected_start;
  changed();
}

void Work::stop(const StopOrigin& by, milliseconds grace, bool force, Now now) {
  job_.stop_grace = force ? milliseconds(0) : grace.count() > 0 ? grace : spec().grace;
  // The first request gives the reason, and keeps the job from being restarted
  // (Gang::may_restart()). Later ones change how much patience there is.
  if (job_.stop_reason.empty()) {
    job_.stop_reason = "stopped by " + by.text();
    job_.status.stopped_by = by;
    job_.status.stopped_by->unix_ms = now.unix_ms;
  } else {
    happened(EventKind::kJobStopping,
             str_cat(force ? "to be killed at once, says " : "asked again by ", by.text()));
  }
  advance(JobEvent::kStopRequested, now);
}

void Work::stop(const std::string& reason, milliseconds grace, Now now) {
  job_.stop_reason = reason;
  job_.stop_grace = grace;
  advance(JobEvent::kStopRequested, now);
}

void Work::withdraw(const std::string& reason, Now now) {
  // A restart must not give the key back to it.
  job_.submission_key.clear();
  changed(true);
  if (ended()) return;
  // What its submission has granted waits behind a row that did not get to disk, and is dropped
  // once the job has ended (Core::perform()).
  nobody_was_told();
  stop(reason, milliseconds(0), now);
}

// What workers were to do until then they may not have been told yet. The time limit is not moved:
// ranks run on meanwhile.
void Work::postpone(milliseconds gap) {
  if (give_up_at_) *give_up_at_ += gap;
}

bool Work::advance(JobEvent event, Now now) {
  const auto step = job_step(state(), event);
  // Too late, or not in this state: nothing happens.
  if (!step) return false;
  if (step->to != state()) note(" ", to_string(state()), " -> ", to_string(step->to));
  switch (step->action) {
    case JobAction::kNone:
      job_.status.state = step->to;
      job_.status.reason = "";
      break;
    case JobAction::kPrepare:
    case JobAction::kLaunch:
    case JobAction::kFormAgain:
      job_.status.state = step->to;
      act(step->action, now);
      break;
    case JobAction::kStopRanks:
      job_.status.state = step->to;
      stop_all(now);
      break;
    case JobAction::kEnd:
      end(step->to, now);
      break;
    // The table cannot tell the two apart: a job that was stopped by a user has no verdict.
    case JobAction::kEndByVerdict:
      end(job_.verdict ? step->to : JobState::kStopped, now);
      break;
  }
  // Every step is written down, so that a master that is restarted knows which messages may have
  // left.
  changed();
  return true;
}

void Work::fail(Verdict verdict, Now now) {
  note(" failed: ", verdict.message);
  job_.verdict = std::move(verdict);
  job_.status.reason = job_.verdict->message;
  // The ranks that did not fail are stopped as patiently as by a user.
  job_.stop_grace = spec().grace;
  advance(JobEvent::kFailed, now);
}

// Also for a second request to stop: the workers are told again, and the time to give up on them
// starts anew.
void Work::stop_all(Now now) {
  job_.killed = job_.stop_grace.count() == 0;
  give_up_at_ = now.instant + job_.stop_grace + site_.options.stop_margin;
  // A verdict that came first stays the reason, even if a user stops the job while its ranks are
  // being stopped.
  if (!job_.verdict) job_.status.reason = job_.stop_reason;
  if (job_.verdict) report();
  happened(EventKind::kJobStopping, job_.status.reason);
  tell_to_stop(now);
  review_stopping(now);
}

void Work::send_stop(const WorkerId& worker) {
  site_.send(worker, StopRanksMessage{launch(), job_.killed ? milliseconds(0) : job_.stop_grace,
                                      job_.status.reason});
}

void Work::review_stopping(Now now) {
  if (!all_accounted()) return;
  advance(may_restart() ? JobEvent::kRestart : JobEvent::kAllGone, now);
}

void Work::end(JobState state, Now now) {
  job_.status.state = state;
  job_.status.unix_ms_ended = now.unix_ms;
  if (on_end_) on_end_();
  job_.status.unix_ms_expected_start = 0;
  give_up_at_.reset();
  retry_at_.reset();
  time_is_up_.reset();
  let_go();
  switch (state) {
    case JobState::kSucceeded:
      job_.status.reason = success();
      break;
    case JobState::kFailed:
      // A job fails only with a verdict: fail() and give_up_waiting() set it first, and
      // kEndByVerdict looks whether there is one.
      job_.verdict = refine_verdict(*job_.verdict, job_.status.ranks);
      report();
      job_.status.reason = job_.status.failure->message;
      job_.status.exit_code = job_exit_code(*job_.status.failure);
      break;
    default:
      job_.status.reason = job_.stop_reason;
      job_.status.exit_code = 128 + 15;  // as after SIGTERM
      break;
  }
  job_.status.hang.reset();
  note(" ", to_string(state), ": ", job_.status.reason);
  happened(EventKind::kJobEnded, str_cat(to_string(state), ": ", job_.status.reason));
}

void Work::start_clock(Now now) {
  if (!job_.started_at) {
    job_.started_at = now.instant;
    if (job_.status.unix_ms_started == 0) job_.status.unix_ms_started = now.unix_ms;
  }
  const milliseconds limit = spec().time_limit;
  if (limit.count() > 0) time_is_up_ = *job_.started_at + limit;
}

void Work::expire(Now now) {
  if (retry_at_ && *retry_at_ <= now.instant) {
    retry_at_.reset();  // it may wait for room
    if (takes_single_slots()) site_.plan_at = now.instant;
  }
  tick(now);
  if (time_is_up_ && *time_is_up_ <= now.instant && !job_.verdict) {
    time_is_up_.reset();
    if (job_.stop_reason.empty()) {
      fail({FailureClass::kTimeLimit, std::nullopt, "",
            str_cat("it ran longer than its time limit of ",
                    format_seconds(static_cast<double>(spec().time_limit.count()) / 1000)),
            false},
           now);
      return;
    }
  }
  if (give_up_at_ && *give_up_at_ <= now.instant) {
    if (state() == JobState::kStarting) {
      if (starting_took_too_long(now)) return;
    } else if (!job_.killed) {
      // A worker kills by itself when the grace is over (control/worker/gangs/launch.h). This is
      // for one that has not done so, or that never heard of the stop. The next time its ranks
      // count as lost.
      job_.killed = true;
      give_up_at_ = now.instant + site_.options.stop_margin;
      send_stops();
    } else {
      give_up_at_.reset();
      account_for_silent(now);
    }
    changed();
  }
  review(now);
}

std::optional<Instant> Work::next_wakeup() const {
  return earliest(earliest(give_up_at_, retry_at_), earliest(time_is_up_, wakeup()));
}

std::optional<Instant> Work::ends_at_the_latest(Now now) const {
  if (state() == JobState::kStopping && !may_restart()) {
    // The end of the grace. The margin after it is for workers that do not answer, and is not
    // expected to be used.
    return give_up_at_ ? *give_up_at_ - site_.options.stop_margin : now.instant;
  }
  if (time_is_up_) return *time_is_up_ + spec().grace;
  if (spec().time_limit.count() <= 0) return std::nullopt;
  return now.instant + spec().time_limit + spec().grace;
}

WaitingJob Work::waiting_job(Now now) const {
  return {id(),
          job_.number,
          spec().priority,
          spec().demand(),
          std::nullopt,
          ends_at_the_latest(now),
          retry_at_};
}

void Work::explain(ExplainFacts* facts, Now now) const {
  const auto left = [&](std::optional<Instant> at) -> std::optional<milliseconds> {
    if (!at || *at <= now.instant) return std::nullopt;
    return std::chrono::duration_cast<milliseconds>(*at - now.instant);
  };
  facts->job = job_.status;
  if (state() == JobState::kPending) facts->starts_again_in = left(retry_at_);
  facts->acts_in = left(give_up_at_);
  facts->killed = job_.killed;
  if (job_.status.hang) {
    const uint64_t since = std::min(now.unix_ms, job_.status.hang->unix_ms_since);
    facts->quiet = milliseconds(now.unix_ms - since);
  }
  add_facts(facts);
}

void Work::changed(bool urgent) {
  site_.effects.emplace_back(JobChangedEffect{id(), urgent});
  // Messages that stand on this change are held until the row is on disk, whichever of the two was
  // said first (control/master/core/commit_gate.h).
  if (urgent) site_.row_changed(kJobRows, id());
}

void Work::happened(EventKind kind, std::string text) {
  ClusterEvent event{kind,         id(),
                     "",           job_.status.generation,
                     std::nullopt, capped(std::move(text), limits::kSentence)};
  if (job_.status.failure) {
    event.worker = job_.status.failure->worker;
    event.rank = job_.status.failure->rank;
  }
  site_.effects.emplace_back(JournalEffect{std::move(event)});
}

}  // namespace longhaul
