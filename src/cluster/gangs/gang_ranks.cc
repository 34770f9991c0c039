// The part of a gang that hears of its ranks: from them, through their workers.
#include <algorithm>
#include <array>
#include <utility>

#include "base/capped.h"
#include "cluster/failure/hang.h"
#include "cluster/gangs/gang.h"

namespace longhaul {
namespace {

// Between two looks at a gang in which nothing moves.
constexpr milliseconds kLookAgain{5'000};

// What the ranks of one attempt say of their ends is kept whole up to so many bytes in all. Of
// ranks that come later a line each is kept, because a job's status is one message and one row.
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

// Names the holder of shard leases: one rank of one generation, so that a rank of the next
// generation never holds what its predecessor had.
std::string incarnation_of(Generation generation, Rank rank) {
  return str_cat(generation, "/", rank);
}

}  // namespace

Work::Heard Gang::heard(SessionId session, const WorkerRecord& worker, const FromWorker& message,
                        Now now) {
  return std::visit([&](const auto& one) { return on(session, worker, one, now); }, message);
}

Work::Heard Gang::on(SessionId, const WorkerRecord& worker, const PreparedMessage& message,
                     Now now) {
  if (state() != JobState::kStarting) return Heard::kTaken;
  // One refusal ends the job, though other workers may not have answered: a gang cannot run without
  // all of its ranks. What the others say then comes too late and is ignored.
  if (!message.error.empty()) {
    fail({FailureClass::kLaunch, std::nullopt, worker.id,
          str_cat("worker ", worker.id, " cannot start '", spec().command.front(),
                  "': ", message.error),
          false, message.exit_code},
         now);
    return Heard::kRoomFreed;
  }
  prepared_[worker.id] = message;
  if (prepared_.size() == job_.shares.size()) advance(JobEvent::kAllPrepared, now);
  return Heard::kTaken;
}

Work::Heard Gang::on(SessionId, const WorkerRecord& worker, const RankEventMessage& message,
                     Now now) {
  std::vector<RankRecord>& ranks = job_.status.ranks;
  if (!job_.launched || message.rank < 0 || message.rank >= static_cast<int>(ranks.size())) {
    return Heard::kTaken;
  }
  RankRecord& rank = ranks[static_cast<size_t>(message.rank)];
  // Ignored: a report about another worker's rank, or about one that counts as gone already.
  // Workers repeat their reports after a reconnect, and what counts as lost stays lost.
  if (rank.worker != worker.id || rank.accounted()) return Heard::kTaken;
  std::visit([&](const auto& change) { on(rank, change, now); }, message.change);
  const bool urgent = !std::holds_alternative<RankProgress>(message.change);
  changed(urgent);
  review(now);
  return ended() ? Heard::kRoomFreed : Heard::kTaken;
}

void Gang::on(RankRecord& rank, const RankSpawned& change, Now now) {
  if (rank.state != RankState::kAssigned) return;  // sent again after a reconnect
  rank.pid = change.pid;
  rank.state = RankState::kSpawned;
  rank.unix_ms_started = now.unix_ms;
}

// The rank's first init(), or one after it had left or failed: another World of its process, or the
// next program of its script. What the one before said counts no more.
void Gang::on(RankRecord& rank, const RankJoined&, Now now) {
  if (rank.joined() && !rank.left && !rank.fault) return;  // sent again after a reconnect
  rank.joined_at = now.instant;
  rank.state = RankState::kJoined;
  rank.left = false;
  rank.fault.reset();
  rank.progress.reset();
  moved(now);
}

void Gang::on(RankRecord& rank, const RankProgress& change, Now now) {
  const bool is_new = !rank.progress || rank.progress->step != change.step ||
                      rank.progress->collective_sequence != change.collective_sequence;
  if (is_new) {
    rank.moved_at = now.instant;
    moved(now);
  }
  std::optional<Hang>& hang = job_.status.hang;
  // The worker asks for a stack when it was told to look at this rank (LookAtRankMessage); it comes
  // with the rank's next report.
  if (hang && hang->rank == rank.rank && !change.stack.empty()) {
    hang->stack = change.stack;
    changed();
  }
  rank.progress = change;
  rank.progress->stack.clear();  // the hang's
  rank.progress_at = now.instant;
}

void Gang::on(RankRecord& rank, const RankFault& change, Now now) {
  if (rank.fault) return;  // the first one counts, the rest follow from it
  rank.fault = change;
  be_brief_beyond(kMaxSaidBytes, &said_bytes_, &*rank.fault);
  rank.fault_at = now.instant;
  rank.fault_order = site_.next_order();
}

// From here on others must not count on it, and its exit with code 0 is no early exit.
void Gang::on(RankRecord& rank, const RankLeft&, Now) {
  rank.left = true;
  rank.state = RankState::kLeft;
}

void Gang::on(RankRecord& rank, const RankLook& change, Now) {
  std::optional<Hang>& hang = job_.status.hang;
  if (!hang || hang->rank != rank.rank) return;
  hang->process_state = change.process_state;
  changed();
}

void Gang::on(RankRecord& rank, const RankExit& change, Now now) {
  RankExit exit = change;
  be_brief_beyond(kMaxSaidBytes, &said_bytes_, &exit);
  rank.state = RankState::kExited;
  rank.exit = exit;
  rank.exited_at = now.instant;
  rank.exit_order = site_.next_order();
  rank.unix_ms_exited = now.unix_ms;
  // At once, not at the end of the gang: other ranks may wait for the ranges that it held.
  release_shards(rank.rank);
  // A rank without our library reports no fault; what it died of stands in its last lines.
  if (std::optional<RankFault> fault = fault_of_victim(exit); fault && !rank.fault) {
    rank.fault = std::move(fault);
    rank.fault_at = now.instant;
    rank.fault_order = rank.exit_order;
  }
  // Its worker has stopped it without being told to by this master: the worker is shutting down. So
  // the rank counts as lost with its worker, which is no fault of the program.
  if ((exit.stopped_by_us || exit.preempted) && state() != JobState::kStopping) {
    rank.state = RankState::kLost;
    job_.lost_workers.try_emplace(
        rank.worker,
        WorkerEvidence{rank.worker, rank.host, true, "it is shutting down and stopped its ranks",
                       site_.next_order(), std::nullopt, exit.preempted});
  }
}

void Gang::lose_rank(RankRecord& rank, Now now) {
  rank.state = RankState::kLost;
  rank.exited_at = now.instant;
  rank.exit_order = site_.next_order();
  rank.unix_ms_exited = now.unix_ms;
}

// --- Hangs

// Called for each report of progress, so it only makes sure that a look is due some time:
// look_for_hang() moves the look on while ranks move.
void Gang::moved(Now now) {
  if (state() == JobState::kStopping) return;
  if (!look_at_) look_at_ = now.instant + site_.options.hang_after;
  if (!job_.status.hang) return;
  job_.status.hang.reset();
  look_at_ = now.instant + site_.options.hang_after;
  note(" goes on");
}

void Gang::look_for_hang(Now now) {
  if (state() != JobState::kStarting && state() != JobState::kRunning) {
    // moved() sets it again when the next attempt runs.
    look_at_.reset();
    return;
  }
  std::vector<RankRecord>& ranks = job_.status.ranks;
  const Instant since = last_move(ranks);
  if (since + site_.options.hang_after > now.instant) {
    look_at_ = since + site_.options.hang_after;
    return;
  }
  look_at_ = now.instant + kLookAgain;
  for (RankRecord& rank : ranks) rank.waits_in_store_since = store_.waits_since(rank.rank);
  std::optional<Hang> hang = find_hang(ranks, now.instant);
  std::optional<Hang>& known = job_.status.hang;
  // Told only when it has changed: the status is published and written each time.
  if (hang && known && hang->rank == known->rank && hang->waiting == known->waiting) return;
  if (!hang && !known) return;
  known = std::move(hang);
  changed();
  if (!known) return;
  const auto quiet = std::chrono::duration_cast<milliseconds>(now.instant - since);
  known->unix_ms_since = now.unix_ms - std::min(now.unix_ms, static_cast<uint64_t>(quiet.count()));
  note(" does not move: ", known->message);
  if (!known->rank) return;
  const RankRecord& behind = ranks[static_cast<size_t>(*known->rank)];
  site_.send(behind.worker, LookAtRankMessage{launch(), behind.rank});
}

// --- Where its ranks meet

Work::Heard Gang::on(SessionId session, const WorkerRecord& worker, const StoreCallMessage& message,
                     Now now) {
  // The incarnation, not the session, names the caller: a call that is repeated after a reconnect,
  // or by a worker that has taken the ranks over, is recognised as the same.
  const StoreCaller caller{session, message.call_id, message.rank, worker.registration.incarnation};
  site_.answer(store_.call(caller, message.command, now.instant));
  site_.row_changed(kStoreRows, id());
  review(now);
  return Heard::kTaken;
}

// The generation is over. The next one must begin with an empty store: the old keys would send its
// ranks to the addresses of processes that are gone.
void Gang::drop_store() {
  store_ = RendezvousStore();
  store_dropped_ = true;
  site_.row_changed(kStoreRows, id());
}

StoreRows Gang::take_store_rows() {
  return {std::exchange(store_dropped_, false), store_.take_changes()};
}

// A rank without a session has nobody to be asked now; the caller asks again later.
Gang::WhereRank Gang::where(Rank rank) const {
  WhereRank where{launch(), std::nullopt, ended()};
  const auto index = static_cast<size_t>(rank);
  if (where.over || index >= job_.status.ranks.size()) return where;  // or it has no ranks yet
  const RankRecord& record = job_.status.ranks[index];
  where.over = record.state == RankState::kExited || record.state == RankState::kLost;
  const WorkerRecord* worker = site_.workers.find(record.worker);
  if (worker != nullptr && record.state != RankState::kAssigned) where.session = worker->session;
  return where;
}

bool Gang::is_of(Rank rank, const WorkerId& worker) const {
  const auto index = static_cast<size_t>(rank);
  return rank >= 0 && index < job_.status.ranks.size() && job_.status.ranks[index].worker == worker;
}

// --- Their datasets

Work::Heard Gang::on(SessionId session, const WorkerRecord& worker, const ShardCallMessage& message,
                     Now now) {
  if (!is_of(message.rank, worker.id) ||
      job_.status.ranks[static_cast<size_t>(message.rank)].accounted()) {
    return Heard::kNotMine;
  }
  const LeaseHolder holder{worker.id, incarnation_of(job_.status.generation, message.rank)};
  // The answer leaves once the rows of this exchange are on disk, so a range that a rank was told
  // is committed stays committed.
  ShardAnswerMessage reply{message.call_id, {}, std::nullopt};
  Result<ShardAnswer> answer =
      shards_.exchange(holder, message.exchange, site_.epochs, now.instant);
  if (answer) {
    reply.answer = std::move(*answer);
  } else {
    reply.failure = answer.failure();
  }
  site_.row_changed(kShardRows, id());
  site_.effects.emplace_back(SendEffect{session, std::move(reply)});
  return Heard::kTaken;
}

// A rank that has ended holds nothing; what it had not committed is somebody else's now.
void Gang::release_shards(Rank rank) {
  if (shards_.empty()) return;
  shards_.release(incarnation_of(job_.status.generation, rank));
  site_.row_changed(kShardRows, id());
}

void Gang::release_all_shards() {
  if (shards_.empty()) return;
  shards_.release_all();
  site_.row_changed(kShardRows, id());
}

void Gang::restore_shards(const std::map<std::string, ShardMemory>& datasets, Now now) {
  for (const auto& [name, dataset] : datasets) {
    const Result<void> restored = shards_.restore(name, dataset.plan, dataset.rows, now.instant);
    if (restored) continue;
    const std::string why = str_cat("dataset '", name, "': ", restored.failure().message);
    note(" ", why);
    if (job_.damage.empty()) job_.damage = why;
  }
}

}  // namespace longhaul
