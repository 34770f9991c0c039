#include "control/master/feeds/job_feed.h"

#include <algorithm>

namespace longhaul {
namespace {

// What a piece costs beside its data, roughly: else a rank that prints single bytes would take far
// more memory than its cap.
constexpr size_t kPieceOverhead = 128;
// Of a line that began before since_unix_ms: a longer beginning is left out.
constexpr size_t kLongestHead = size_t{64} << 10;

}  // namespace

JobFeed::StreamKey JobFeed::stream_of(const v1::Output& output) {
  return {output.generation(), output.rank(), output.stream()};
}

JobFeed::JobFeed(size_t max_bytes, const std::string& log_path, LongWrites* long_writes)
    : max_bytes_(max_bytes), long_writes_(long_writes), log_(log_path), anew_above_(2 * max_bytes) {
  MutexLock lock(mutex_);
  for (v1::Output& output : log_.load()) take(std::move(output));
  logged_ = end_;
}

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
    if (output.data().empty() || !take(output)) return;
    write_missing();
    trim(max_bytes_);
    if (log_.bytes() > anew_above_) shorten_log();
  }
  wake_listeners();
}

bool JobFeed::write_log() {
  MutexLock lock(mutex_);
  return write_missing();
}

bool JobFeed::write_missing() {
  if (logged_ == end_) return true;
  auto piece = std::lower_bound(
      pieces_.begin(), pieces_.end(), logged_,
      [](const Piece& candidate, uint64_t byte) { return candidate.begin < byte; });
  for (; piece != pieces_.end(); ++piece) {
    if (!log_.append(*piece->output)) return false;
    logged_ = piece->begin + piece->output->data().size();
  }
  logged_ = end_;
  return true;
}

// False: nothing of it is new. A piece without data is a mark of the log: it tells up to where its
// stream has been received, of which the pieces are kept no more.
bool JobFeed::take(v1::Output output) {
  uint64_t& received = received_[stream_of(output)];
  const uint64_t end = output.offset() + output.data().size();
  if (end <= received) return false;
  if (output.data().empty()) {
    received = end;
    return false;
  }
  if (output.offset() < received) {
    output.mutable_data()->erase(0, received - output.offset());
    output.set_offset(received);
  }
  received = end;
  const size_t bytes = output.data().size();
  pieces_.push_back({end_, std::make_shared<v1::Output>(std::move(output))});
  end_ += bytes;
  kept_ += bytes + kPieceOverhead;
  return true;
}

std::vector<OutputLog::Entry> JobFeed::marks_and_pieces() const {
  // For each stream, where its first kept piece begins, or where it ends when none is kept. A
  // master that reads the log takes what lies before for received, so that a worker that sends it
  // again does not bring it twice.
  std::map<StreamKey, uint64_t> before = received_;
  for (auto piece = pieces_.rbegin(); piece != pieces_.rend(); ++piece) {
    before[stream_of(*piece->output)] = piece->output->offset();
  }
  std::vector<OutputLog::Entry> entries;
  entries.reserve(before.size() + pieces_.size());
  for (const auto& [stream, offset] : before) {
    auto mark = std::make_shared<v1::Output>();
    mark->set_generation(std::get<0>(stream));
    mark->set_rank(std::get<1>(stream));
    mark->set_stream(static_cast<v1::OutputStream>(std::get<2>(stream)));
    mark->set_offset(offset);
    entries.push_back(std::move(mark));
  }
  for (const Piece& piece : pieces_) entries.push_back(piece.output);
  return entries;
}

// What is kept no more goes from the log too. Writing the log anew takes a while, so another thread
// does it, and the old log is written on meanwhile: a crash at any moment finds one that is whole.
void JobFeed::shorten_log() {
  if (anew_ || !log_.keeps()) return;
  const uint64_t number = ++anew_number_;
  // Where it fails it is tried again after max_bytes_ more, not for each piece that comes.
  anew_above_ = log_.bytes() + max_bytes_;
  if (long_writes_ == nullptr) {
    took_its_place(log_.rewrite(marks_and_pieces()));
    return;
  }
  // The task holds the feed, since the job may be forgotten before its turn comes.
  anew_ = long_writes_->push([feed = shared_from_this(), number, entries = marks_and_pieces(),
                              end = end_] { feed->write_anew(number, entries, end); });
}

// On the thread for long writes. `entries`: all that was kept when the job's output came to `end`.
// They are written without the lock; what has come meanwhile is added under it, and then the draft
// takes the log's place.
void JobFeed::write_anew(uint64_t number, const std::vector<OutputLog::Entry>& entries,
                         uint64_t end) {
  const OutputLog place = [this] {
    MutexLock lock(mutex_);
    return log_.beside();
  }();
  OutputLog draft = place.draft(entries);
  MutexLock lock(mutex_);
  anew_ = false;
  bool whole = draft.keeps() && number == anew_number_;
  if (whole && begin_ > end) {
    // Pieces that came after `end` were dropped already, because so much has come meanwhile: behind
    // the draft's entries there would be a gap. So all of it is written once more, under the lock.
    draft.remove();
    return took_its_place(log_.rewrite(marks_and_pieces()));
  }
  for (const Piece& piece : pieces_) {
    if (whole && piece.begin >= end) whole = draft.append(*piece.output);
  }
  if (!whole) return draft.remove();
  took_its_place(log_.replace_by(std::move(draft)));
}

void JobFeed::took_its_place(bool done) {
  if (!done) return;
  logged_ = end_;
  anew_above_ = 2 * max_bytes_;
}

void JobFeed::clear_output() {
  MutexLock lock(mutex_);
  trim(0);
  // A draft that is being written has what was just thrown away: its number is out of date now.
  ++anew_number_;
  took_its_place(log_.rewrite(marks_and_pieces()));
}

void JobFeed::remove_log() {
  MutexLock lock(mutex_);
  ++anew_number_;
  log_.remove();
}

v1::JobStatus JobFeed::status() const {
  MutexLock lock(mutex_);
  return status_;
}

bool JobFeed::ended() const {
  MutexLock lock(mutex_);
  return ended_;
}

size_t JobFeed::output_bytes() const {
  MutexLock lock(mutex_);
  return kept_;
}

void JobFeed::trim(size_t max_bytes) {
  while (kept_ > max_bytes && !pieces_.empty()) {
    const v1::Output& oldest = *pieces_.front().output;
    kept_ -= oldest.data().size() + kPieceOverhead;
    if (oldest.has_task()) received_.erase(stream_of(oldest));  // all that came of it
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
  // The status of a job that has ended comes last, after all output: it ends the watch.
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
  // A watcher of one attempt ends with that attempt: what may still come of it, late, is not waited
  // for.
  const bool over = cursor->attempt != 0 && cursor->attempt < status_.generation();
  return ended_ || over || !cursor->follow ? Next::kEnd : Next::kNothingYet;
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
    cursor->byte = piece->begin + piece->output->data().size();
    if (wanted(cursor, *piece->output, event->mutable_output())) return true;
  }
  event->Clear();
  return false;
}

// A line counts from the time when it was whole. So the beginning of a line that came before
// since_unix_ms is kept, and put in front of the rest when that comes.
bool JobFeed::wanted(Cursor* cursor, const v1::Output& output, v1::Output* shown) {
  if (!cursor->only_ranks.empty() && !cursor->only_ranks.contains(output.rank())) return false;
  if (cursor->attempt != 0 && cursor->attempt != output.generation()) return false;
  if (cursor->since_unix_ms == 0) {
    *shown = output;
    return true;
  }
  std::string& head = cursor->heads[stream_of(output)];
  if (output.unix_ms() < cursor->since_unix_ms) {
    const size_t line_end = output.data().rfind('\n');
    if (line_end != std::string::npos) head.clear();
    head += output.data().substr(line_end == std::string::npos ? 0 : line_end + 1);
    if (head.size() > kLongestHead) head.clear();
    return false;
  }
  *shown = output;
  shown->mutable_data()->insert(0, head);
  shown->set_offset(output.offset() - std::min<uint64_t>(output.offset(), head.size()));
  head.clear();
  return true;
}

void JobFeed::listen(const std::weak_ptr<FeedListener>& listener) {
  MutexLock lock(mutex_);
  std::erase_if(listeners_, [](const auto& one) { return one.expired(); });
  listeners_.push_back(listener);
}

// Without the lock: a listener that is woken reads the feed, which takes it again.
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
