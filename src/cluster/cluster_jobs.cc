// The part of ClusterState that takes a job through its table, from the first question to the
// workers to the report.
#include <algorithm>
#include <array>
#include <set>
#include <type_traits>

#include "base/capped.h"
#include "base/mix.h"
#include "cluster/cluster_state.h"
#include "cluster/failure/backoff.h"
#include "cluster/failure/hang.h"

namespace longhaul {
namespace {

constexpr size_t kKeepFailures = 20;
constexpr size_t kNamedShares = 8;
// While nothing moves.
constexpr milliseconds kLookAgain{5'000};
constexpr size_t kLargeGang = 64;
constexpr std::chrono::microseconds kPauseForEachRank{10};

// What the ranks of one attempt say is kept as it is up to so many bytes; of those who come after,
// a line each must do. A status is a message, and a row.
constexpr size_t kMaxSaidBytes = size_t{4} << 20;
constexpr size_t kBriefBytes = 200;

size_t bytes_of_lines(const std::vector<std::string>& lines) {
  size_t bytes = 0;
  for (const std::string& line : lines) bytes += line.size();
  return bytes;
}

void be_brief_beyond(size_t max_bytes, size_t* said_bytes, RankFault* fault) {
  *said_bytes += fault->message.size();
  if (*said_bytes > max_bytes) fault->message = capped(std::move(fault->message), kBriefBytes);
}

void be_brief_beyond(size_t max_bytes, size_t* said_bytes, RankExit* exit) {
  ExitEvidence& evidence = exit->evidence;
  const std::array sentences = {&exit->launch_error, &evidence.exception, &evidence.cannot_run,
                                &evidence.out_of_memory};
  for (const std::string* sentence : sentences) *said_bytes += sentence->size();
  *said_bytes += bytes_of_lines(exit->last_lines) + bytes_of_lines(evidence.backtrace);
  if (*said_bytes <= max_bytes) return;
  for (std::string* sentence : sentences) *sentence = capped(std::move(*sentence), kBriefBytes);
  exit->last_lines = capped(std::move(exit->last_lines), 1, kBriefBytes);
  evidence.backtrace.clear();
}

// "gpu-a (4 ranks), gpu-b (4 ranks), ...".
std::string describe(const std::vector<RankShare>& shares) {
  std::vector<std::string> parts;
  for (const RankShare& share : shares) {
    if (parts.size() == kNamedShares) break;
    parts.push_back(str_cat(share.worker, " (", share.ranks.size(),
                            share.ranks.size() == 1 ? " rank)" : " ranks)"));
  }
  if (shares.size() > kNamedShares) parts.emplace_back("...");
  return "on " + join(parts, ", ");
}

}  // namespace

bool ClusterState::advance(Job& job, JobEvent event, Now now) {
  const auto step = job_step(job.status.state, event);
  if (!step) return false;
  if (step->to != job.status.state) {
    note("job ", job.status.id, " ", to_string(job.status.state), " -> ", to_string(step->to));
  }
  switch (step->action) {
    case JobAction::kNone:
      job.status.state = step->to;
      job.status.reason = "";
      break;
    case JobAction::kPrepare:
      job.status.state = step->to;
      job.status.reason = "";
      job.status.ranks.clear();
      job.status.ranks.resize(static_cast<size_t>(job.shares.back().ranks.back()) + 1);
      job.give_up_at = now.instant + options_.prepare_timeout;
      for (const RankShare& share : job.shares) {
        for (const Rank rank : share.ranks) {
          RankRecord& record = job.status.ranks[static_cast<size_t>(rank)];
          record.rank = rank;
          record.worker = share.worker;
          record.host = workers_.find(share.worker)->registration.host;
          const auto each = static_cast<std::ptrdiff_t>(job.status.spec.gpus_per_rank);
          const auto first = share.gpus.begin() + each * (rank - share.ranks.front());
          record.gpus.assign(first, first + each);
        }
        prepare(job, share.worker);
      }
      happened(EventKind::kJobPlaced, job, describe(job.shares));
      break;
    case JobAction::kLaunch:
      job.status.state = step->to;
      launch(job, now);
      break;
    case JobAction::kStopRanks:
      job.status.state = step->to;
      stop_ranks(job, now);
      break;
    case JobAction::kEnd:
      end(job, step->to, now);
      break;
    case JobAction::kEndByVerdict:
      end(job, job.verdict ? step->to : JobState::kStopped, now);
      break;
    case JobAction::kFormAgain:
      job.status.state = step->to;
      form_again(job, now);
      break;
  }
  changed(job);
  return true;
}

void ClusterState::prepare(Job& job, const WorkerId& worker) {
  send(worker, PrepareMessage{job.launch(), job.status.spec, job.shares.front().worker == worker});
}

void ClusterState::prepared(SessionId session, const PreparedMessage& message, Now now) {
  if (!heard(session, now)) return;
  const WorkerRecord* worker = nullptr;
  Job* job = job_on(session, message.launch, &worker);
  if (job == nullptr || job->status.state != JobState::kStarting) return;
  if (!message.error.empty()) {
    fail(*job,
         {FailureClass::kLaunch, std::nullopt, worker->id,
          str_cat("worker ", worker->id, " cannot start '", job->status.spec.command.front(),
                  "': ", message.error),
          false, message.exit_code},
         now);
    schedule(now);
    return;
  }
  job->prepared[worker->id] = message;
  if (job->prepared.size() == job->shares.size()) advance(*job, JobEvent::kAllPrepared, now);
}

void ClusterState::launch(Job& job, Now now) {
  const WorkerId& first = job.shares.front().worker;
  job.launched = true;
  job.give_up_at.reset();
  start_clock(job, now);
  job.master_addr = workers_.find(first)->registration.address;
  job.master_port = job.prepared.at(first).port;
  for (size_t share = 0; share < job.shares.size(); ++share) send_launch(job, share);
  happened(EventKind::kJobStarted, job,
           str_cat(job.status.ranks.size(), " ranks, attempt ", job.status.generation));
}

void ClusterState::send_launch(Job& job, size_t share) {
  LaunchMessage message;
  message.launch = job.launch();
  message.spec = job.status.spec;
  message.spec.ranks = static_cast<int>(job.status.ranks.size());
  message.restarts = job.status.all_restarts();
  message.ranks = job.shares[share].ranks;
  message.node_rank = static_cast<int>(share);
  message.node_count = static_cast<int>(job.shares.size());
  message.master_addr = job.master_addr;
  message.master_port = job.master_port;
  message.gpus = job.shares[share].gpus;
  send(job.shares[share].worker, std::move(message));
}

void ClusterState::fail(Job& job, Verdict verdict, Now now) {
  note("job ", job.status.id, " failed: ", verdict.message);
  job.verdict = std::move(verdict);
  job.status.reason = job.verdict->message;
  job.stop_grace = job.status.spec.grace;
  advance(job, JobEvent::kFailed, now);
}

// The ranks that still run are told; those that wait in the store hear why at once.
void ClusterState::stop_ranks(Job& job, Now now) {
  job.decide_at.reset();
  job.killed = job.stop_grace.count() == 0;
  job.give_up_at = now.instant + job.stop_grace + options_.stop_margin;
  if (!job.verdict) job.status.reason = job.stop_reason;
  if (job.verdict) report(job);
  happened(EventKind::kJobStopping, job, job.status.reason);
  answer(job.store.fail(job.status.reason));
  for (const RankShare& share : job.shares) send_stop(job, share.worker);
  if (job.tasks) {
    job.tasks->cancel_all();
    tasks_changed(job, /*urgent=*/true);
    std::set<WorkerId> holders;
    for (const auto& [id, batch] : job.batches) holders.insert(batch.holder.worker);
    for (const WorkerId& worker : holders) send_stop(job, worker);
  }
  review_stopping(job, now);
}

void ClusterState::send_stop(Job& job, const WorkerId& worker) {
  send(worker, StopRanksMessage{job.launch(), job.killed ? milliseconds(0) : job.stop_grace,
                                job.status.reason});
}

void ClusterState::end(Job& job, JobState state, Now now) {
  job.status.state = state;
  job.status.unix_ms_ended = now.unix_ms;
  active_.erase(job.place());
  active_arrays_.erase(job.place());
  job.status.unix_ms_expected_start = 0;
  give_slots_back(job);
  if (job.tasks) count_tasks(job);
  job.decide_at.reset();
  job.give_up_at.reset();
  job.retry_at.reset();
  job.time_is_up.reset();
  job.look_at.reset();
  job.missing_since.clear();
  answer(job.store.fail("the job has ended"));
  drop_store(job);
  release_shards(job);
  switch (state) {
    case JobState::kSucceeded:
      job.status.reason = job.tasks ? "every task is done" : "every rank exited with code 0";
      break;
    case JobState::kFailed:
      job.verdict = refine_verdict(*job.verdict, job.status.ranks);
      report(job);
      job.status.reason = job.status.failure->message;
      job.status.exit_code = job_exit_code(*job.status.failure);
      break;
    default:
      job.status.reason = job.stop_reason;
      job.status.exit_code = 128 + 15;  // as after SIGTERM
      break;
  }
  job.status.hang.reset();
  note("job ", job.status.id, " ", to_string(state), ": ", job.status.reason);
  happened(EventKind::kJobEnded, job, str_cat(to_string(state), ": ", job.status.reason));
}

// What counts is when the job was first started, by a clock that nobody sets.
void ClusterState::start_clock(Job& job, Now now) {
  if (!job.started_at) {
    job.started_at = now.instant;
    if (job.status.unix_ms_started == 0) job.status.unix_ms_started = now.unix_ms;
  }
  const milliseconds limit = job.status.spec.time_limit;
  if (limit.count() > 0) job.time_is_up = *job.started_at + limit;
}

milliseconds ClusterState::restart_delay(const Job& job) const {
  const auto restarts = static_cast<uint32_t>(job.status.all_restarts());
  const Backoff backoff{options_.restart_delay, options_.max_restart_delay};
  return backoff.delay(restarts, mix64(job.number ^ mix64(restarts)));
}

bool ClusterState::may_restart(const Job& job) const {
  // Once a user has stopped it, it stays stopped.
  if (!job.verdict || !job.stop_reason.empty() || job.tasks) return false;
  switch (job.verdict->failure_class) {
    case FailureClass::kLaunch:
    case FailureClass::kNoRoom:
    case FailureClass::kTimeLimit:
    case FailureClass::kTasks:
    case FailureClass::kStateDamaged:
      return false;
    default:
      break;
  }
  const FaultKind kind = fault_kind(job.verdict->failure_class);
  const bool own_fault = kind == FaultKind::kApplication || kind == FaultKind::kOutOfMemory;
  if (own_fault && job.attempts_without_progress >= options_.max_attempts_without_progress) {
    return false;
  }
  return job.status.restarts_after(kind) < job.status.spec.max_restarts_after(kind);
}

void ClusterState::form_again(Job& job, Now now) {
  job.verdict = refine_verdict(*job.verdict, job.status.ranks);
  report(job);
  happened(EventKind::kJobFailedAttempt, job, job.status.failure->message);
  job.status.count_restart(fault_kind(job.verdict->failure_class));
  std::vector<FailureReport>& earlier = job.status.earlier_failures;
  if (earlier.size() >= kKeepFailures) earlier.erase(earlier.begin());
  earlier.push_back(std::move(*job.status.failure));

  // A job that never reports a step is not held to it.
  int64_t step = -1;
  for (const RankRecord& rank : job.status.ranks) {
    if (rank.progress) step = std::max(step, rank.progress->step);
  }
  job.attempts_without_progress =
      step > job.best_step || job.best_step < 0 ? 0 : job.attempts_without_progress + 1;
  job.best_step = std::max(job.best_step, step);

  job.node_order.clear();
  for (const RankShare& share : job.shares) job.node_order.push_back(share.worker);
  give_slots_back(job);
  job.shares.clear();
  job.prepared.clear();
  job.missing_since.clear();
  job.lost_workers.clear();
  job.status.ranks.clear();
  job.status.failure.reset();
  job.status.hang.reset();
  job.look_at.reset();
  job.verdict.reset();
  job.launched = job.killed = false;
  job.said_bytes = 0;
  job.decide_at.reset();
  job.give_up_at.reset();
  release_shards(job);
  answer(job.store.fail("the gang is being formed again"));
  drop_store(job);
  ++job.status.generation;

  const milliseconds delay = restart_delay(job);
  job.retry_at = now.instant + delay;
  job.status.reason = str_cat("starts again: ", earlier.back().message);
  // Nothing takes its room before the next plan.
  reserved_ = std::min(reserved_.value_or(job.place()), job.place());
  schedule_at_ = now.instant;
  note("job ", job.status.id, " is formed again as generation ", job.status.generation, " in ",
       delay.count(), " ms");
  happened(EventKind::kJobRestarted, job,
           str_cat("attempt ", job.status.generation, " in ",
                   format_seconds(static_cast<double>(delay.count()) / 1000)));
}

void ClusterState::report(Job& job) {
  std::vector<WorkerEvidence> workers;
  for (const RankShare& share : job.shares) {
    const auto lost = job.lost_workers.find(share.worker);
    const WorkerRecord* known = workers_.find(share.worker);
    if (lost != job.lost_workers.end()) {
      workers.push_back(lost->second);
    } else if (known != nullptr) {
      workers.push_back({share.worker, known->registration.host, false, "", 0, std::nullopt});
    }
  }
  job.status.failure = make_report(*job.verdict, job.status.ranks, workers);
  const std::optional<Hang>& hang = job.status.hang;
  if (hang && hang->rank == job.verdict->rank && job.status.failure->backtrace.empty()) {
    job.status.failure->backtrace = hang->stack;
  }
  for (RankRecord& rank : job.status.ranks) rank.victim = false;
  for (const Rank victim : job.status.failure->victims) {
    job.status.ranks[static_cast<size_t>(victim)].victim = true;
  }
}

bool ClusterState::all_accounted(const Job& job) const {
  if (job.tasks) return job.batches.empty();
  return !job.launched || std::all_of(job.status.ranks.begin(), job.status.ranks.end(),
                                      [](const RankRecord& rank) { return rank.accounted(); });
}

void ClusterState::rank_event(SessionId session, const RankEventMessage& message, Now now) {
  if (!heard(session, now)) return;
  const WorkerRecord* worker = nullptr;
  Job* job = job_on(session, message.launch, &worker);
  if (job == nullptr || !job->launched || message.rank < 0 ||
      message.rank >= static_cast<int>(job->status.ranks.size())) {
    return;
  }
  RankRecord& rank = job->status.ranks[static_cast<size_t>(message.rank)];
  // Refused: another worker's rank, or one that counts as gone (a repeated or late report).
  if (rank.worker != worker->id || rank.accounted()) return;
  apply(*job, rank, message.change, now);
  const bool urgent = !std::holds_alternative<RankProgress>(message.change);
  changed(*job, urgent);
  review(*job, now);
  if (has_ended(job->status.state)) schedule(now);
}

void ClusterState::apply(Job& job, RankRecord& rank, const RankChange& change, Now now) {
  std::visit(
      [&](const auto& event) {
        using Event = std::decay_t<decltype(event)>;
        if constexpr (std::is_same_v<Event, RankSpawned>) {
          if (rank.state != RankState::kAssigned) return;  // sent again after a reconnect
          rank.pid = event.pid;
          rank.state = RankState::kSpawned;
          rank.unix_ms_started = now.unix_ms;
        } else if constexpr (std::is_same_v<Event, RankJoined>) {
          if (rank.joined() && !rank.left && !rank.fault) return;  // sent again after a reconnect
          rank_joined(job, rank, now);
        } else if constexpr (std::is_same_v<Event, RankProgress>) {
          const bool is_new = !rank.progress || rank.progress->step != event.step ||
                              rank.progress->collective_sequence != event.collective_sequence;
          if (is_new) {
            rank.moved_at = now.instant;
            moved(job, now);
          }
          if (job.status.hang && job.status.hang->rank == rank.rank && !event.stack.empty()) {
            job.status.hang->stack = event.stack;
            changed(job);
          }
          rank.progress = event;
          rank.progress->stack.clear();  // the hang's
          rank.progress_at = now.instant;
        } else if constexpr (std::is_same_v<Event, RankFault>) {
          if (rank.fault) return;  // the first one counts, the rest follow from it
          rank.fault = event;
          be_brief_beyond(kMaxSaidBytes, &job.said_bytes, &*rank.fault);
          rank.fault_at = now.instant;
          rank.fault_order = ++order_;
        } else if constexpr (std::is_same_v<Event, RankLeft>) {
          rank.left = true;
          rank.state = RankState::kLeft;
        } else if constexpr (std::is_same_v<Event, RankLook>) {
          if (job.status.hang && job.status.hang->rank == rank.rank) {
            job.status.hang->process_state = event.process_state;
            changed(job);
          }
        } else {
          rank_exited(job, rank, event, now);
        }
      },
      change);
}

// The rank's first init(), or one after it had left or failed: another World of its process, or the
// next program of its script. What the one before said counts no more.
void ClusterState::rank_joined(Job& job, RankRecord& rank, Now now) {
  rank.joined_at = now.instant;
  rank.state = RankState::kJoined;
  rank.left = false;
  rank.fault.reset();
  rank.progress.reset();
  moved(job, now);
}

// Looked at no more often than it could be said.
void ClusterState::moved(Job& job, Now now) {
  if (job.status.state == JobState::kStopping) return;
  if (!job.look_at) job.look_at = now.instant + options_.hang_after;
  if (!job.status.hang) return;
  job.status.hang.reset();
  job.look_at = now.instant + options_.hang_after;
  note("job ", job.status.id, " goes on");
}

void ClusterState::look_for_hang(Job& job, Now now) {
  const bool starts = job.status.state == JobState::kStarting;
  if (job.tasks || (!starts && job.status.state != JobState::kRunning)) {
    job.look_at.reset();
    return;
  }
  const Instant since = last_move(job.status.ranks);
  if (since + options_.hang_after > now.instant) {
    job.look_at = since + options_.hang_after;
    return;
  }
  job.look_at = now.instant + kLookAgain;
  for (RankRecord& rank : job.status.ranks) {
    rank.waits_in_store_since = job.store.waits_since(rank.rank);
  }
  std::optional<Hang> hang = find_hang(job.status.ranks, now.instant);
  std::optional<Hang>& known = job.status.hang;
  if (hang && known && hang->rank == known->rank && hang->waiting == known->waiting) return;
  if (!hang && !known) return;
  known = std::move(hang);
  changed(job);
  if (!known) return;
  const auto quiet = std::chrono::duration_cast<milliseconds>(now.instant - since);
  known->unix_ms_since = now.unix_ms - std::min(now.unix_ms, static_cast<uint64_t>(quiet.count()));
  note("job ", job.status.id, " does not move: ", known->message);
  if (!known->rank) return;
  const RankRecord& behind = job.status.ranks[static_cast<size_t>(*known->rank)];
  send(behind.worker, LookAtRankMessage{job.launch(), behind.rank});
}

void ClusterState::rank_exited(Job& job, RankRecord& rank, RankExit exit, Now now) {
  be_brief_beyond(kMaxSaidBytes, &job.said_bytes, &exit);
  rank.state = RankState::kExited;
  rank.exit = exit;
  rank.exited_at = now.instant;
  rank.exit_order = ++order_;
  rank.unix_ms_exited = now.unix_ms;
  release_shards(job, rank.rank);
  if (std::optional<RankFault> fault = fault_of_victim(exit); fault && !rank.fault) {
    rank.fault = std::move(fault);
    rank.fault_at = now.instant;
    rank.fault_order = rank.exit_order;
  }
  // Stopped, and not by this master: its worker is shutting down.
  if ((exit.stopped_by_us || exit.preempted) && job.status.state != JobState::kStopping) {
    rank.state = RankState::kLost;
    job.lost_workers.try_emplace(
        rank.worker,
        WorkerEvidence{rank.worker, rank.host, true, "it is shutting down and stopped its ranks",
                       ++order_, std::nullopt, exit.preempted});
  }
}

void ClusterState::lose_rank(RankRecord& rank, Now now) {
  rank.state = RankState::kLost;
  rank.exited_at = now.instant;
  rank.exit_order = ++order_;
  rank.unix_ms_exited = now.unix_ms;
}

std::vector<WorkerEvidence> ClusterState::worker_evidence(const Job& job, Now now) const {
  std::vector<WorkerEvidence> evidence;
  for (const RankShare& share : job.shares) {
    if (const auto lost = job.lost_workers.find(share.worker); lost != job.lost_workers.end()) {
      evidence.push_back(lost->second);
      continue;
    }
    const WorkerRecord* worker = workers_.find(share.worker);
    if (worker == nullptr) continue;
    evidence.push_back({share.worker, worker->registration.host, false, "", 0,
                        workers_.lease_ends(*worker, now.instant)});
  }
  return evidence;
}

// A look at all ranks costs their number, and each rank brings several events: a look for each
// event would cost the square. So a large gang is looked at from time to time, and what came
// meanwhile is seen together.
bool ClusterState::may_review(Job& job, Now now) {
  const size_t ranks = job.status.ranks.size();
  const Instant due = job.reviewed_at + (ranks > kLargeGang ? ranks * kPauseForEachRank
                                                            : std::chrono::nanoseconds(0));
  if (due > now.instant) {
    job.review_at = due;
    return false;
  }
  job.review_at.reset();
  job.reviewed_at = now.instant;
  return true;
}

// Looks at everything known about the job and moves it on if that is enough.
void ClusterState::review(Job& job, Now now) {
  if (!may_review(job, now)) return;
  if (job.status.state == JobState::kStopping) {
    review_stopping(job, now);
    return;
  }
  if (job.status.state != JobState::kStarting && job.status.state != JobState::kRunning) return;
  if (job.tasks) return review_array(job, now);
  const bool all_well =
      std::all_of(job.status.ranks.begin(), job.status.ranks.end(), [](const RankRecord& rank) {
        return rank.state == RankState::kExited && rank.exit->exit_code == 0 &&
               rank.exit->signal == 0 && rank.exit->launch_error.empty();
      });
  if (all_well) {
    advance(job, JobEvent::kAllSucceeded, now);
    return;
  }
  for (RankRecord& rank : job.status.ranks) {
    rank.waits_in_store_since = job.store.waits_since(rank.rank);
  }
  FailureOptions options = options_.failure;
  options.join_timeout = job.status.spec.join_timeout;
  const FailureDecision decision =
      decide_culprit(job.status.ranks, worker_evidence(job, now), now.instant, options);
  job.decide_at = decision.wait_until;
  if (decision.verdict) fail(job, *decision.verdict, now);
}

void ClusterState::review_stopping(Job& job, Now now) {
  if (!all_accounted(job)) return;
  advance(job, may_restart(job) ? JobEvent::kRestart : JobEvent::kAllGone, now);
}

// What time alone brings about.
void ClusterState::expire(Job& job, Now now) {
  if (job.retry_at && *job.retry_at <= now.instant) {
    job.retry_at.reset();  // it may wait for room
    if (job.tasks) schedule_at_ = now.instant;
  }
  answer(job.store.expire(now.instant));
  if (job.look_at && *job.look_at <= now.instant) look_for_hang(job, now);
  if (job.tasks) {
    job.tasks->tick(now.instant);
    row_changed(kTaskRows, job.status.id);
  }
  for (auto missing = job.missing_since.begin(); missing != job.missing_since.end();) {
    if (missing->second + options_.inventory_grace > now.instant) {
      ++missing;
      continue;
    }
    const WorkerId id = missing->first;
    missing = job.missing_since.erase(missing);
    for (RankRecord& rank : job.status.ranks) {
      if (rank.worker != id || rank.accounted()) continue;
      job.lost_workers[id] = {id,       rank.host,   true, "it came back and no longer runs them",
                              ++order_, std::nullopt};
      lose_rank(rank, now);
      changed(job);
    }
  }
  if (job.time_is_up && *job.time_is_up <= now.instant && !job.verdict) {
    job.time_is_up.reset();
    if (job.stop_reason.empty()) {
      fail(job,
           {FailureClass::kTimeLimit, std::nullopt, "",
            str_cat("it ran longer than its time limit of ",
                    format_seconds(static_cast<double>(job.status.spec.time_limit.count()) / 1000)),
            false},
           now);
      return;
    }
  }
  if (job.give_up_at && *job.give_up_at <= now.instant) {
    if (job.status.state == JobState::kStarting) {
      for (const RankShare& share : job.shares) {
        if (job.prepared.contains(share.worker)) continue;
        fail(job,
             {FailureClass::kLaunch, std::nullopt, share.worker,
              str_cat("worker ", share.worker, " did not say within ",
                      options_.prepare_timeout.count(), " ms whether it can start the job"),
              false},
             now);
        return;
      }
    } else if (!job.killed) {
      job.killed = true;
      job.give_up_at = now.instant + options_.stop_margin;
      for (const RankShare& share : job.shares) send_stop(job, share.worker);
      for (const auto& [id, batch] : job.batches) send_stop(job, batch.holder.worker);
    } else {
      job.give_up_at.reset();
      while (!job.batch_of.empty()) close_lease(job, job.batch_of.begin()->first);
      for (RankRecord& rank : job.status.ranks) {
        if (rank.accounted()) continue;
        note("job ", job.status.id, ": worker ", rank.worker, " never reported the end of rank ",
             rank.rank);
        lose_rank(rank, now);
      }
    }
    changed(job);
  }
  review(job, now);
}

void ClusterState::store_call(SessionId session, const StoreCallMessage& message, Now now) {
  if (!heard(session, now)) return;
  const WorkerRecord* worker = nullptr;
  Job* job = job_on(session, message.launch, &worker);
  const StoreCaller caller{session, message.call_id, message.rank,
                           worker == nullptr ? "" : worker->registration.incarnation};
  if (job == nullptr) {
    const Failure stale{ErrorKind::kStale, str_cat("job ", message.launch.job, " generation ",
                                                   message.launch.generation, " is over")};
    answer({{caller, {stale, "", 0}}});
    return;
  }
  answer(job->store.call(caller, message.command, now.instant));
  row_changed(kStoreRows, job->status.id);
  review(*job, now);
}

void ClusterState::drop_store(Job& job) {
  job.store = RendezvousStore();
  job.store_dropped = true;
  row_changed(kStoreRows, job.status.id);
}

StoreRows ClusterState::take_store_rows(const JobId& id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return {};
  return {std::exchange(found->second.store_dropped, false), found->second.store.take_changes()};
}

void ClusterState::answer(const std::vector<StoreReply>& replies) {
  for (const StoreReply& reply : replies) {
    effects_.emplace_back(
        SendEffect{reply.caller.session, StoreAnswerMessage{reply.caller.call_id, reply.result}});
  }
}

bool ClusterState::rank_output(SessionId session, const LaunchId& launch, Rank rank, Now now) {
  heard(session, now);
  const WorkerRecord* worker = workers_.by_session(session);
  const auto found = jobs_.find(launch.job);
  if (worker == nullptr || found == jobs_.end() || launch.life != life_) return false;
  const JobStatus& job = found->second.status;
  if (rank < 0 || rank >= job.spec.ranks) return false;
  // Who ran an older one, may_have_run() says.
  if (launch.generation != job.generation) return launch.generation < job.generation;
  return rank < static_cast<int>(job.ranks.size()) &&
         job.ranks[static_cast<size_t>(rank)].worker == worker->id;
}

}  // namespace longhaul
