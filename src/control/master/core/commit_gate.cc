#include "control/master/core/commit_gate.h"

#include <iterator>

#include "control/convert/event_proto.h"
#include "control/database/clock_mark.h"

namespace longhaul {
namespace {

// The clock is marked at least so often while jobs run. When the host dies, the time since the last
// mark is not counted to them.
constexpr milliseconds kBetweenMarks{10'000};
// Writing and publishing a gang costs its number of ranks. A gang above this size pauses between
// two writes, 10 us for each rank, so that its whole cost stays linear.
constexpr size_t kLargeGang = 64;
constexpr std::chrono::microseconds kPauseForEachRank{10};

}  // namespace

void CommitGate::Held::add(Held later) {
  std::move(later.effects.begin(), later.effects.end(), std::back_inserter(effects));
  std::move(later.done.begin(), later.done.end(), std::back_inserter(done));
  for (auto& [job, status] : later.statuses) statuses[job] = std::move(status);
  for (auto& [session, sequences] : later.beats) {
    std::vector<uint64_t>& all = beats[session];
    all.insert(all.end(), sequences.begin(), sequences.end());
  }
}

void CommitGate::Held::forget(SessionId session) {
  beats.erase(session);
  std::erase_if(effects, [session](const Effect& effect) {
    const auto* send = std::get_if<SendEffect>(&effect);
    return send != nullptr && send->session == session;
  });
}

CommitGate::CommitGate(const Owner& owner, const Clock& clock, std::unique_ptr<Database> database,
                       EventJournal* journal, size_t keep_events, Post post, CarryOut carry_out)
    : owner_(owner),
      clock_(clock),
      database_(std::move(database)),
      journal_(journal),
      keep_events_(keep_events),
      post_(std::move(post)),
      carry_out_(std::move(carry_out)),
      host_start_(this_start()),
      marked_at_(clock.now()) {}

void CommitGate::row_changed(RowChangedEffect row, const ClusterState& state) {
  owner_.assert_owner();
  const JobStatus* status = row.noun == kJobRows ? state.status(row.key) : nullptr;
  const size_t ranks = status == nullptr ? 0 : status->ranks.size();
  if (changed_rows_.insert(std::move(row)).second) dirty_ranks_ += ranks;
}

void CommitGate::happened(ClusterEvent event) {
  owner_.assert_owner();
  event.number = journal_->next_number();
  event.unix_ms = static_cast<uint64_t>(clock_.unix_ms());
  new_events_.push_back(to_proto(event));
  // While the disk takes nothing events pile up here. Those that the journal would drop as soon as
  // they are written need not be kept.
  if (new_events_.size() > 2 * keep_events_) {
    new_events_.erase(new_events_.begin(),
                      new_events_.end() - static_cast<std::ptrdiff_t>(keep_events_));
  }
}

DatabaseBatch& CommitGate::batch() {
  owner_.assert_owner();
  return batch_;
}

void CommitGate::hold(Effect effect) {
  owner_.assert_owner();
  held_.effects.push_back(std::move(effect));
}

void CommitGate::hold_beat(SessionId session, uint64_t sequence) {
  owner_.assert_owner();
  held_.beats[session].push_back(sequence);
}

void CommitGate::hold_status(const JobId& job, Held::Status status) {
  owner_.assert_owner();
  held_.statuses[job] = std::move(status);
}

void CommitGate::when_durable(std::function<void(bool durable)> done) {
  owner_.assert_owner();
  held_.done.push_back({std::move(done), false});
}

void CommitGate::when_durable_soon(std::function<void(bool durable)> done) {
  owner_.assert_owner();
  held_.done.push_back({std::move(done), true});
}

void CommitGate::forget(SessionId session) {
  owner_.assert_owner();
  held_.forget(session);
  for (Held& held : in_flight_) held.forget(session);
}

Instant CommitGate::worth_writing_at() const {
  owner_.assert_owner();
  if (dirty_ranks_ <= kLargeGang) return sealed_at_;
  return sealed_at_ + dirty_ranks_ * kPauseForEachRank;
}

bool CommitGate::may_seal(bool ends) const {
  owner_.assert_owner();
  // In trouble no batch is formed while another one is in flight: what comes meanwhile is collected
  // into the next one, in which rows that change again are one.
  return in_flight_.empty() || !trouble() || ends;
}

void CommitGate::seal_events() {
  if (new_events_.empty()) return;
  EventsTable::Rows& rows = batch_.of<EventsTable>();
  for (const v1::Event& event : new_events_)
    rows.events[event.number()] = event.SerializeAsString();
  rows.first_kept = journal_->first_kept(new_events_.back().number());
  when_durable([this, events = std::exchange(new_events_, {})](bool durable) {
    if (durable) journal_->publish(events);
  });
}

// Where the clock stands goes with whatever is written, and every kBetweenMarks by itself while the
// clock of some job runs.
void CommitGate::seal_marks(const ClusterState& state) {
  if (database_ == nullptr) return;
  const Instant at = clock_.now();
  const bool due = state.counts_time() && at - marked_at_ >= kBetweenMarks;
  if (batch_.empty() && !due) return;
  marked_at_ = at;
  batch_.of<MetaTable>().marks[kHostStart] = host_start_;
  batch_.of<MetaTable>().marks[kHostMs] = to_ms(at);
}

void CommitGate::seal(ClusterState& state, bool written) {
  owner_.assert_owner();
  // The rows are made only here, of the state as it is now: a row that has changed often is written
  // once.
  seal_events();
  dirty_ranks_ = 0;
  for (const RowChangedEffect& row : std::exchange(changed_rows_, {})) collect(row, state, &batch_);
  seal_marks(state);
  sealed_at_ = clock_.now();
  DatabaseBatch batch = std::exchange(batch_, {});
  Held held = std::exchange(held_, {});
  // Nothing to wait for: no database, none that will write, or nothing that is not on disk.
  if (database_ == nullptr || gave_up_ || (batch.empty() && in_flight_.empty())) {
    carry_out(held, written && (database_ == nullptr || batch.empty()));
  } else if (!batch.empty()) {
    in_flight_.push_back(std::move(held));
    database_->write(std::move(batch), [this] {
      // On the database's thread. After the owner's queue was closed nobody runs durable() any
      // more: close() does it then.
      if (!post_([this] { durable(); })) ++durable_after_close_;
    });
  } else {
    // It has nothing of its own to write, but may tell of what an earlier batch has not written
    // yet.
    in_flight_.back().add(std::move(held));
  }
}

void CommitGate::durable() {
  owner_.assert_owner();
  if (in_flight_.empty()) return;  // given up on
  const Held held = std::move(in_flight_.front());
  in_flight_.pop_front();
  carry_out(held, true);
}

void CommitGate::carry_out(const Held& held, bool durable) {
  if (durable) carry_out_(held);
  for (const Held::Done& done : held.done) done.call(durable);
}

void CommitGate::tell_impatient() {
  owner_.assert_owner();
  // Collected first, because a call may ask this gate for more.
  std::vector<std::function<void(bool)>> impatient;
  const auto take = [&impatient](Held& held) {
    for (Held::Done& one : held.done) {
      if (one.soon) impatient.push_back(std::move(one.call));
    }
    std::erase_if(held.done, [](const Held::Done& one) { return one.soon; });
  };
  for (Held& held : in_flight_) take(held);
  take(held_);
  for (const auto& call : impatient) call(false);
}

void CommitGate::give_up() {
  owner_.assert_owner();
  gave_up_ = true;
  for (const Held& held : std::exchange(in_flight_, {})) carry_out(held, false);
}

void CommitGate::close() {
  // Writes what it has and joins its thread, so that durable_after_close_ can be read. Batches are
  // durable in order: the first so many of those in flight are.
  database_.reset();
  for (const Held& held : std::exchange(in_flight_, {})) {
    const bool durable = durable_after_close_ > 0;
    if (durable) --durable_after_close_;
    carry_out(held, durable);
  }
  // What was never sealed: the disk was in trouble to the end.
  carry_out(std::exchange(held_, {}), false);
}

}  // namespace longhaul
