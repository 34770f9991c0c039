#include "control/master/job_feed.h"

#include <algorithm>

namespace longhaul {
namespace {

constexpr size_t kPieceOverhead = 128;

}  // namespace

void JobFeed::publish(v1::JobStatus status, bool ended) {
  {
    MutexLock lock(mutex_);
    status_ = std::move(status);
    ++version_;
    ended_ = ended;
  }
  wake_listeners();
}

void JobFeed::append(const v1::Output& output) {
  {
    MutexLock lock(mutex_);
    uint64_t& received = received_[{output.rank(), output.stream()}];
    const uint64_t end = output.offset() + output.data().size();
    if (output.data().empty() || end <= received) return;
    Piece piece{end_, output};
    if (output.offset() < received) {
      piece.output.mutable_data()->erase(0, received - output.offset());
      piece.output.set_offset(received);
    }
    received = end;
    end_ += piece.output.data().size();
    kept_ += piece.output.data().size() + kPieceOverhead;
    pieces_.push_back(std::move(piece));
    trim(max_bytes_);
  }
  wake_listeners();
}

void JobFeed::clear_output() {
  MutexLock lock(mutex_);
  trim(0);
}

size_t JobFeed::output_bytes() const {
  MutexLock lock(mutex_);
  return kept_;
}

void JobFeed::trim(size_t max_bytes) {
  while (kept_ > max_bytes && !pieces_.empty()) {
    kept_ -= pieces_.front().output.data().size() + kPieceOverhead;
    pieces_.pop_front();
  }
  begin_ = pieces_.empty() ? end_ : pieces_.front().begin;
}

JobFeed::Cursor JobFeed::start(bool output, bool from_start, bool follow,
                               std::set<uint32_t> only_ranks) const {
  MutexLock lock(mutex_);
  Cursor cursor;
  cursor.output = output;
  cursor.follow = follow;
  cursor.only_ranks = std::move(only_ranks);
  cursor.byte = from_start ? 0 : end_;
  return cursor;
}

JobFeed::Next JobFeed::next(Cursor* cursor, v1::WatchJobEvent* event) const {
  MutexLock lock(mutex_);
  if (cursor->version != version_ && !ended_) {
    cursor->version = version_;
    *event->mutable_status() = status_;
    return Next::kEvent;
  }
  if (cursor->output && next_output(cursor, event)) return Next::kEvent;
  if (cursor->version != version_) {
    cursor->version = version_;
    *event->mutable_status() = status_;
    return Next::kEvent;
  }
  return ended_ || !cursor->follow ? Next::kEnd : Next::kNothingYet;
}

bool JobFeed::next_output(Cursor* cursor, v1::WatchJobEvent* event) const {
  if (cursor->byte < begin_) {
    event->set_output_dropped_bytes(begin_ - cursor->byte);
    cursor->byte = begin_;
    return true;
  }
  auto piece = std::lower_bound(
      pieces_.begin(), pieces_.end(), cursor->byte,
      [](const Piece& candidate, uint64_t byte) { return candidate.begin < byte; });
  for (; piece != pieces_.end(); ++piece) {
    cursor->byte = piece->begin + piece->output.data().size();
    if (!cursor->only_ranks.empty() && !cursor->only_ranks.contains(piece->output.rank())) continue;
    *event->mutable_output() = piece->output;
    return true;
  }
  return false;
}

void JobFeed::listen(const std::weak_ptr<FeedListener>& listener) {
  MutexLock lock(mutex_);
  std::erase_if(listeners_, [](const auto& one) { return one.expired(); });
  listeners_.push_back(listener);
}

// Without the lock: a listener reads the feed when it is woken.
void JobFeed::wake_listeners() {
  std::vector<std::shared_ptr<FeedListener>> awake;
  {
    MutexLock lock(mutex_);
    for (const auto& listener : listeners_) {
      if (auto one = listener.lock()) awake.push_back(std::move(one));
    }
  }
  for (const auto& listener : awake) listener->wake();
}

}  // namespace longhaul
