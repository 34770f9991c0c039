#include "control/master/core/commit_gate.h"

#include <iterator>

#include "control/convert/event_proto.h"
#include "control/database/clock_mark.h"

namespace longhaul {
namespace {

// How much of the time that jobs have run may be lost with the master's host.
constexpr milliseconds kBetweenMarks{10'000};
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

CommitGate::CommitGate(const Clock& clock, std::unique_ptr<Database> database,
                       EventJournal* journal, size_t keep_events, Post post, CarryOut carry_out)
    : clock_(clock),
      database_(std::move(database)),
      journal_(journal),
      keep_events_(keep_events),
      post_(std::move(post)),
      carry_out_(std::move(carry_out)),
      host_start_(this_start()),
      marked_at_(clock.now()) {}

void CommitGate::row_changed(RowChangedEffect row, const ClusterState& state) {
  const JobStatus* status = row.noun == kJobRows ? state.status(row.key) : nullptr;
  const size_t ranks = status == nullptr ? 0 : status->ranks.size();
  if (changed_rows_.insert(std::move(row)).second) dirty_ranks_ += ranks;
}

void CommitGate::happened(ClusterEvent event) {
  event.number = journal_->next_number();
  event.unix_ms = static_cast<uint64_t>(clock_.unix_ms());
  new_events_.push_back(to_proto(event));
  // Older ones would be dropped as soon as they are written.
  if (new_events_.size() > 2 * keep_events_) {
    new_events_.erase(new_events_.begin(),
                      new_events_.end() - static_cast<std::ptrdiff_t>(keep_events_));
  }
}

void CommitGate::forget(SessionId session) {
  held_.forget(session);
  for (Held& held : in_flight_) held.forget(session);
}

Instant CommitGate::worth_writing_at() const {
  if (dirty_ranks_ <= kLargeGang) return sealed_at_;
  return sealed_at_ + dirty_ranks_ * kPauseForEachRank;
}

bool CommitGate::may_seal(bool ends) const {
  // What comes meanwhile makes one batch.
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

// With whatever is written, and now and then by itself, so that little is lost with the host.
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
  seal_events();
  dirty_ranks_ = 0;
  for (const RowChangedEffect& row : std::exchange(changed_rows_, {})) collect(row, state, &batch_);
  seal_marks(state);
  sealed_at_ = clock_.now();
  DatabaseBatch batch = std::exchange(batch_, {});
  Held held = std::exchange(held_, {});
  if (database_ == nullptr || gave_up_ || (batch.empty() && in_flight_.empty())) {
    carry_out(held, written && (database_ == nullptr || batch.empty()));
  } else if (!batch.empty()) {
    in_flight_.push_back(std::move(held));
    database_->write(std::move(batch), [this] {
      if (!post_([this] { durable(); })) ++durable_after_close_;
    });
  } else {
    // Nothing of its own to write, but it may tell of what is not on disk yet.
    in_flight_.back().add(std::move(held));
  }
}

void CommitGate::durable() {
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
  gave_up_ = true;
  for (const Held& held : std::exchange(in_flight_, {})) carry_out(held, false);
}

void CommitGate::close() {
  // Its last callbacks find nobody who takes them.
  database_.reset();
  for (const Held& held : std::exchange(in_flight_, {})) {
    const bool durable = durable_after_close_ > 0;
    if (durable) --durable_after_close_;
    carry_out(held, durable);
  }
}

}  // namespace longhaul
