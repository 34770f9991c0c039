#include "cluster/gangs/gang.h"

#include <algorithm>
#include <utility>

#include "base/mix.h"
#include "cluster/failure/backoff.h"

namespace longhaul {
namespace {

// Reports of earlier attempts, which are kept and sent with the status.
constexpr size_t kKeepFailures = 20;
constexpr size_t kNamedShares = 8;
// See may_review(): a gang of 4,000 ranks is looked at every 40 ms.
constexpr size_t kLargeGang = 64;
constexpr std::chrono::microseconds kPauseForEachRank{10};

// "on gpu-a (4 ranks), gpu-b (4 ranks), ...".
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

// Not one of its ranks has been reported as spawned, or as anything else.
bool never_heard_of(const std::vector<RankRecord>& ranks, const WorkerId& worker) {
  return std::all_of(ranks.begin(), ranks.end(), [&](const RankRecord& rank) {
    return rank.worker != worker || rank.state == RankState::kAssigned;
  });
}

}  // namespace

std::string Gang::size() const {
  return str_cat(spec().ranks, " ranks");
}

// --- What it wants and holds

std::optional<WaitingJob> Gang::waiting(Now now) const {
  if (state() != JobState::kPending) return std::nullopt;
  return waiting_job(now);
}

RunningJob Gang::running(Now now) const {
  RunningJob running{id(), {}, ends_at_the_latest(now), false};
  if (!holds_slots_) return running;
  const Resources each = spec().demand().each;
  for (const RankShare& share : job_.shares) {
    running.taken.push_back({share.worker, each * static_cast<int>(share.ranks.size())});
  }
  return running;
}

int Gang::slots_held() const {
  if (!holds_slots_) return 0;
  size_t held = 0;
  for (const RankShare& share : job_.shares) held += share.ranks.size();
  return static_cast<int>(held);
}

std::set<WorkerId> Gang::holders() const {
  std::set<WorkerId> holders;
  for (const RankRecord& rank : job_.status.ranks) holders.insert(rank.worker);
  return holders;
}

void Gang::granted(const JobStart& start, Now now) {
  if (start.shares.empty()) return;
  job_.shares = keep_node_ranks(start.shares, job_.node_order);
  // The policy has only counted GPUs; which ones they are is decided here. They are kept with the
  // job's row, so a master that is restarted gives them to nobody else.
  for (RankShare& share : job_.shares) {
    const WorkerRecord& worker = *site_.workers.find(share.worker);
    const int count = spec().gpus_per_rank * static_cast<int>(share.ranks.size());
    share.gpus = site_.use[share.worker].free_gpus(worker.registration.gpus, count);
  }
  retry_at_.reset();
  job_.status.unix_ms_expected_start = 0;
  take_slots();
  advance(JobEvent::kPlaced, now);
}

void Gang::take_slots() {
  holds_slots_ = true;
  const Resources each = spec().demand().each;
  for (const RankShare& share : job_.shares) {
    held_by_.insert(share.worker);
    site_.use[share.worker].take(each * static_cast<int>(share.ranks.size()), share.gpus);
  }
}

void Gang::give_slots_back() {
  if (!std::exchange(holds_slots_, false)) return;
  held_by_.clear();
  const Resources each = spec().demand().each;
  for (const RankShare& share : job_.shares) {
    site_.use[share.worker].give_back(each * static_cast<int>(share.ranks.size()), share.gpus);
  }
}

// --- From its place to its launch

// A gang starts in three steps. It is placed: slots and GPUs are taken, and that is on disk before
// a worker is asked anything. It is prepared: every worker says that it can start the program; a
// master that is restarted asks again (worker_back()). It is launched, which is on disk before a
// launch leaves. Until then nothing runs anywhere. After it, every rank is accounted for before the
// gang ends: by its exit, or by the loss of its worker.
void Gang::act(JobAction action, Now now) {
  if (action == JobAction::kPrepare) {
    prepare_all(now);
  } else if (action == JobAction::kLaunch) {
    launch_all(now);
  } else {
    form_again(now);
  }
}

void Gang::prepare_all(Now now) {
  job_.status.reason = "";
  job_.status.ranks.clear();
  // Ranks are numbered over the shares, so the last one tells how many there are. An elastic gang
  // may have fewer than spec().ranks.
  job_.status.ranks.resize(static_cast<size_t>(job_.shares.back().ranks.back()) + 1);
  give_up_at_ = now.instant + site_.options.prepare_timeout;
  for (const RankShare& share : job_.shares) {
    for (const Rank rank : share.ranks) {
      RankRecord& record = job_.status.ranks[static_cast<size_t>(rank)];
      record.rank = rank;
      record.worker = share.worker;
      record.host = site_.workers.find(share.worker)->registration.host;
      const auto each = static_cast<std::ptrdiff_t>(spec().gpus_per_rank);
      const auto first = share.gpus.begin() + each * (rank - share.ranks.front());
      record.gpus.assign(first, first + each);
    }
    prepare(share.worker);
  }
  happened(EventKind::kJobPlaced, describe(job_.shares));
}

// Asks the worker whether it can start the program; the worker of rank 0 also picks the port where
// the ranks meet. Nothing is started anywhere before all of them have said yes, so that a program
// that is missing on one host does not start ranks on the others. To a worker whose stream is
// broken nothing is sent: worker_back() asks it again.
void Gang::prepare(const WorkerId& worker) {
  site_.send(worker, PrepareMessage{launch(), spec(), job_.shares.front().worker == worker});
}

bool Gang::starting_took_too_long(Now now) {
  for (const RankShare& share : job_.shares) {
    if (prepared_.contains(share.worker)) continue;
    fail({FailureClass::kLaunch, std::nullopt, share.worker,
          str_cat("worker ", share.worker, " did not say within ",
                  site_.options.prepare_timeout.count(), " ms whether it can start the job"),
          false},
         now);
    return true;
  }
  return false;
}

void Gang::launch_all(Now now) {
  const WorkerId& first = job_.shares.front().worker;
  // From here on ranks may run. This is on disk before a launch leaves the master, so one that is
  // restarted waits for the end of every rank (all_accounted()).
  job_.launched = true;
  give_up_at_.reset();
  start_clock(now);
  // torchrun's MASTER_ADDR and MASTER_PORT: rank 0's host, and the port that its worker found free
  // there.
  job_.master_addr = site_.workers.find(first)->registration.address;
  job_.master_port = prepared_.at(first).port;
  for (size_t share = 0; share < job_.shares.size(); ++share) send_launch(share);
  happened(EventKind::kJobStarted,
           str_cat(job_.status.ranks.size(), " ranks, attempt ", job_.status.generation));
}

void Gang::send_launch(size_t share) {
  LaunchMessage message;
  message.launch = launch();
  message.spec = spec();
  // The worker takes the world size from here.
  message.spec.ranks = static_cast<int>(job_.status.ranks.size());
  message.restarts = job_.status.all_restarts();
  message.ranks = job_.shares[share].ranks;
  message.node_rank = static_cast<int>(share);
  message.node_count = static_cast<int>(job_.shares.size());
  message.master_addr = job_.master_addr;
  message.master_port = job_.master_port;
  message.gpus = job_.shares[share].gpus;
  site_.send(job_.shares[share].worker, std::move(message));
}

// --- Its end, and its next generation

// Ranks that wait in the store hear the reason at once, instead of at the end of their timeout.
void Gang::tell_to_stop(Now) {
  decide_at_.reset();
  site_.answer(store_.fail(job_.status.reason));
  send_stops();
}

void Gang::send_stops() {
  // Also to workers that were only asked to prepare: they have no such launch and ignore it.
  for (const RankShare& share : job_.shares) send_stop(share.worker);
}

// Their workers have had the grace, the margin, and after the order to kill the margin once more
// (Work::expire()). Should such a rank still run, its worker ends it when it registers again and
// hears that the launch is over.
void Gang::account_for_silent(Now now) {
  for (RankRecord& rank : job_.status.ranks) {
    if (rank.accounted()) continue;
    note(": worker ", rank.worker, " never reported the end of rank ", rank.rank);
    lose_rank(rank, now);
  }
}

// Before the launch no worker was asked to start anything.
bool Gang::all_accounted() const {
  return !job_.launched || std::all_of(job_.status.ranks.begin(), job_.status.ranks.end(),
                                       [](const RankRecord& rank) { return rank.accounted(); });
}

void Gang::let_go() {
  give_slots_back();
  decide_at_.reset();
  look_at_.reset();
  missing_since_.clear();
  // In this order: drop_store() forgets who waits.
  site_.answer(store_.fail("the job has ended"));
  drop_store();
  release_all_shards();
}

void Gang::report() {
  std::vector<WorkerEvidence> workers;
  for (const RankShare& share : job_.shares) {
    const auto lost = job_.lost_workers.find(share.worker);
    const WorkerRecord* known = site_.workers.find(share.worker);
    if (lost != job_.lost_workers.end()) {
      workers.push_back(lost->second);
    } else if (known != nullptr) {
      workers.push_back({share.worker, known->registration.host, false, "", 0, std::nullopt});
    }
  }
  job_.status.failure = make_report(*job_.verdict, job_.status.ranks, workers);
  const std::optional<Hang>& hang = job_.status.hang;
  if (hang && hang->rank == job_.verdict->rank && job_.status.failure->backtrace.empty()) {
    job_.status.failure->backtrace = hang->stack;
  }
  // The report is made when the stop begins and once more at its end, when the verdict may have
  // been refined.
  for (RankRecord& rank : job_.status.ranks) rank.victim = false;
  for (const Rank victim : job_.status.failure->victims) {
    job_.status.ranks[static_cast<size_t>(victim)].victim = true;
  }
}

// The jitter comes from the job's number and its attempt instead of a generator, so that a master
// that is restarted computes the same delay.
milliseconds Gang::restart_delay() const {
  const auto restarts = static_cast<uint32_t>(job_.status.all_restarts());
  const Backoff backoff{site_.options.restart_delay, site_.options.max_restart_delay};
  return backoff.delay(restarts, mix64(job_.number ^ mix64(restarts)));
}

bool Gang::may_restart() const {
  // Once a user has stopped it, it stays stopped.
  if (!job_.verdict || !job_.stop_reason.empty()) return false;
  // Another attempt could not do better: the program cannot be started, the time is used up, or the
  // state cannot be read.
  switch (job_.verdict->failure_class) {
    case FailureClass::kLaunch:
    case FailureClass::kNoRoom:
    case FailureClass::kTimeLimit:
    case FailureClass::kTasks:
    case FailureClass::kStateDamaged:
      return false;
    default:
      break;
  }
  const FaultKind kind = fault_kind(job_.verdict->failure_class);
  // A lost host says nothing about the program, so such an attempt may always be followed by
  // another one, within its budget.
  const bool own_fault = kind == FaultKind::kApplication || kind == FaultKind::kOutOfMemory;
  if (own_fault && job_.attempts_without_progress >= site_.options.max_attempts_without_progress) {
    return false;
  }
  return job_.status.restarts_after(kind) < spec().max_restarts_after(kind);
}

void Gang::form_again(Now now) {
  // All ranks have been stopped by now, so their process states are known.
  job_.verdict = refine_verdict(*job_.verdict, job_.status.ranks);
  report();
  happened(EventKind::kJobFailedAttempt, job_.status.failure->message);
  job_.status.count_restart(fault_kind(job_.verdict->failure_class));
  std::vector<FailureReport>& earlier = job_.status.earlier_failures;
  if (earlier.size() >= kKeepFailures) earlier.erase(earlier.begin());
  earlier.push_back(std::move(*job_.status.failure));

  // Progress is a step beyond the best one of all attempts. A job that never reports a step is not
  // held to it.
  int64_t step = -1;
  for (const RankRecord& rank : job_.status.ranks) {
    if (rank.progress) step = std::max(step, rank.progress->step);
  }
  job_.attempts_without_progress =
      step > job_.best_step || job_.best_step < 0 ? 0 : job_.attempts_without_progress + 1;
  job_.best_step = std::max(job_.best_step, step);

  // Workers that are chosen again keep their node rank (keep_node_ranks()).
  job_.node_order.clear();
  for (const RankShare& share : job_.shares) job_.node_order.push_back(share.worker);
  give_slots_back();
  job_.shares.clear();
  prepared_.clear();
  missing_since_.clear();
  job_.lost_workers.clear();
  job_.status.ranks.clear();
  job_.status.failure.reset();
  job_.status.hang.reset();
  look_at_.reset();
  job_.verdict.reset();
  job_.launched = job_.killed = false;
  said_bytes_ = 0;
  decide_at_.reset();
  give_up_at_.reset();
  release_all_shards();
  // Whoever still waits is answered before drop_store() forgets him.
  site_.answer(store_.fail("the gang is being formed again"));
  drop_store();
  // From here on the launch of the old generation is nobody's: whatever its ranks still say is
  // dropped, all but their output.
  ++job_.status.generation;

  const milliseconds delay = restart_delay();
  retry_at_ = now.instant + delay;
  job_.status.reason = str_cat("starts again: ", earlier.back().message);
  // The next plan decides whether this gang has a reservation. Until then ClusterState::refill()
  // gives the slots that have just become free to no array behind it.
  site_.reserved = std::min(site_.reserved.value_or(place()), place());
  site_.plan_at = now.instant;
  note(" is formed again as generation ", job_.status.generation, " in ", delay.count(), " ms");
  happened(EventKind::kJobRestarted,
           str_cat("attempt ", job_.status.generation, " in ",
                   format_seconds(static_cast<double>(delay.count()) / 1000)));
}

void Gang::restore(ClusterMemory& memory, Now now) {
  // Only movement sets look_at_ again, so without this a gang that already hangs would never be
  // looked at.
  if (state() == JobState::kRunning) look_at_ = now.instant + site_.options.hang_after;
  if (const auto shards = memory.shards.find(id()); shards != memory.shards.end()) {
    restore_shards(shards->second, now);
  }
  if (ended()) return;
  if (!job_.shares.empty()) take_slots();
  if (state() == JobState::kPending && job_.status.all_restarts() > 0) {
    retry_at_ = now.instant + restart_delay();
  }
  if (const auto values = memory.stores.find(id()); values != memory.stores.end()) {
    const Result<void> restored = store_.restore(values->second);
    if (!restored) {
      note(": ", restored.failure().message);
      if (job_.damage.empty()) job_.damage = restored.failure().message;
    }
  }
  // Workers repeat the calls of their ranks once they are back; those that would wait are to hear
  // the reason instead.
  if (state() == JobState::kStopping) store_.fail(job_.status.reason);
}

// --- Workers that go and come

bool Gang::runs(const WorkerId& worker) const {
  return std::any_of(job_.status.ranks.begin(), job_.status.ranks.end(),
                     [&](const RankRecord& rank) {
                       return rank.worker == worker && rank.state != RankState::kLost;
                     });
}

bool Gang::may_have_run(const WorkerId& worker) const {
  return std::any_of(job_.status.ranks.begin(), job_.status.ranks.end(),
                     [&](const RankRecord& rank) { return rank.worker == worker; });
}

void Gang::worker_lost(const WorkerId& worker, const std::string& why, bool preempted, Now now) {
  bool held_some = false;
  for (RankRecord& rank : job_.status.ranks) {
    if (rank.worker != worker || rank.accounted()) continue;
    held_some = true;
    job_.lost_workers[worker] = {worker,       rank.host, true, why, site_.next_order(),
                                 std::nullopt, preempted};
    lose_rank(rank, now);
  }
  if (!held_some) return;
  missing_since_.erase(worker);
  changed();
  review(now);
}

// The worker has registered again, and may have missed what was sent to it, or what was to be sent
// while its stream was broken. Its inventory tells whether the launch has arrived.
void Gang::worker_back(const WorkerRecord& worker, Now now) {
  const bool holds_some = std::any_of(
      job_.status.ranks.begin(), job_.status.ranks.end(),
      [&](const RankRecord& rank) { return rank.worker == worker.id && !rank.accounted(); });
  if (!holds_some) return;
  const auto& inventory = worker.registration.inventory;
  const bool runs = std::find(inventory.begin(), inventory.end(), launch()) != inventory.end();
  missing_since_.erase(worker.id);
  if (state() == JobState::kStarting) {
    // Its answer may have been lost. A repeated question does no harm; the port that counts is that
    // of the last answer.
    prepared_.erase(worker.id);
    prepare(worker.id);
  } else if (!runs && state() == JobState::kRunning &&
             never_heard_of(job_.status.ranks, worker.id)) {
    // It has never spoken of a rank and does not list the launch: the launch was lost on its way.
    // Were it still to arrive, the worker would ignore the second one.
    for (size_t share = 0; share < job_.shares.size(); ++share) {
      if (job_.shares[share].worker == worker.id) send_launch(share);
    }
  } else if (!runs) {
    // It had ranks and lists none. Reports of their ends may still come, so they are waited for
    // (inventory_grace) before the ranks count as lost.
    missing_since_[worker.id] = now.instant;
  }
  if (state() == JobState::kStopping) send_stop(worker.id);
}

void Gang::postpone(milliseconds gap) {
  Work::postpone(gap);
  for (auto& [worker, since] : missing_since_) since += gap;
}

// --- Time

void Gang::tick(Now now) {
  site_.answer(store_.expire(now.instant));
  if (look_at_ && *look_at_ <= now.instant) look_for_hang(now);
  look_for_missing(now);
}

void Gang::look_for_missing(Now now) {
  for (auto missing = missing_since_.begin(); missing != missing_since_.end();) {
    if (missing->second + site_.options.inventory_grace > now.instant) {
      ++missing;
      continue;
    }
    const WorkerId worker = missing->first;
    missing = missing_since_.erase(missing);
    for (RankRecord& rank : job_.status.ranks) {
      if (rank.worker != worker || rank.accounted()) continue;
      // The worker is there, but in this attempt it counts as lost with these ranks.
      job_.lost_workers[worker] = {
          worker,      rank.host, true, "it came back and no longer runs them", site_.next_order(),
          std::nullopt};
      lose_rank(rank, now);
      changed();
    }
  }
}

std::optional<Instant> Gang::wakeup() const {
  // Before review_at_ no review takes place, whatever decide_at_ says.
  std::optional<Instant> next = review_at_ ? review_at_ : decide_at_;
  next = earliest(earliest(next, look_at_), store_.next_deadline());
  for (const auto& [worker, since] : missing_since_) {
    next = earliest(next, since + site_.options.inventory_grace);
  }
  return next;
}

// A look at all ranks takes time in proportion to their number, and each rank brings several
// events, so one look for each event would take quadratic time. A large gang is therefore looked at
// from time to time, and sees together what has come meanwhile.
bool Gang::may_review(Now now) {
  const size_t ranks = job_.status.ranks.size();
  const Instant due =
      reviewed_at_ + (ranks > kLargeGang ? ranks * kPauseForEachRank : std::chrono::nanoseconds(0));
  if (due > now.instant) {
    review_at_ = due;
    return false;
  }
  review_at_.reset();
  reviewed_at_ = now.instant;
  return true;
}

void Gang::review(Now now) {
  if (!may_review(now)) return;
  if (state() == JobState::kStopping) return review_stopping(now);
  if (state() != JobState::kStarting && state() != JobState::kRunning) return;
  std::vector<RankRecord>& ranks = job_.status.ranks;
  const bool all_well = std::all_of(ranks.begin(), ranks.end(), [](const RankRecord& rank) {
    return rank.state == RankState::kExited && rank.exit->exit_code == 0 &&
           rank.exit->signal == 0 && rank.exit->launch_error.empty();
  });
  if (all_well) {
    advance(JobEvent::kAllSucceeded, now);
    return;
  }
  for (RankRecord& rank : ranks) rank.waits_in_store_since = store_.waits_since(rank.rank);
  FailureOptions options = site_.options.failure;
  options.join_timeout = spec().join_timeout;
  const FailureDecision decision =
      decide_culprit(ranks, worker_evidence(now), now.instant, options);
  // wakeup() has the review done again then, should nothing happen before.
  decide_at_ = decision.wait_until;
  if (decision.verdict) fail(*decision.verdict, now);
}

std::vector<WorkerEvidence> Gang::worker_evidence(Now now) const {
  std::vector<WorkerEvidence> evidence;
  for (const RankShare& share : job_.shares) {
    // What was lost for this attempt stays lost for it, even if the worker has come back since.
    if (const auto lost = job_.lost_workers.find(share.worker); lost != job_.lost_workers.end()) {
      evidence.push_back(lost->second);
      continue;
    }
    const WorkerRecord* worker = site_.workers.find(share.worker);
    if (worker == nullptr) continue;
    evidence.push_back({share.worker, worker->registration.host, false, "", 0,
                        site_.workers.lease_ends(*worker, now.instant)});
  }
  return evidence;
}

void Gang::add_facts(ExplainFacts* facts) const {
  if (state() != JobState::kStarting) return;
  for (const RankShare& share : job_.shares) {
    if (!prepared_.contains(share.worker)) facts->unprepared.push_back(share.worker);
  }
}

}  // namespace longhaul
