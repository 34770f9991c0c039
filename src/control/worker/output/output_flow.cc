#include "control/worker/output/output_flow.h"

#include <algorithm>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// What stands in the place of so many bytes that are gone. It is never longer than they were, or it
// would reach into the offsets of the bytes behind them.
std::string loss_notice(uint64_t bytes) {
  const std::string notice = str_cat("\n[longhaul: ", format_bytes(bytes),
                                     " of output are missing here: the spool was full]\n");
  return notice.size() <= bytes ? notice : std::string(bytes, '?');
}

}  // namespace

void OutputFlow::add(SpoolReader spool) {
  const uint64_t sent = spool.acknowledged();
  streams_.push_back({std::move(spool), sent});
}

void OutputFlow::replace(size_t stream, SpoolReader spool) {
  const uint64_t sent = spool.acknowledged();
  streams_[stream] = {std::move(spool), sent};
}

std::optional<OutputFlow::Chunk> OutputFlow::next() {
  trouble_.clear();
  if (total_sent_ - total_acknowledged_ >= kWindowBytes) return std::nullopt;
  for (size_t i = 0; i < streams_.size(); ++i) {
    const size_t index = (turn_ + i) % streams_.size();
    Stream& stream = streams_[index];
    Chunk chunk{index, stream.sent, "", 0};
    uint64_t there = stream.sent;
    chunk.data = stream.spool.read(there, kChunkBytes);
    if (there > chunk.offset) {
      // First a line says that bytes are missing. What was read from behind them is thrown away and
      // read again by the next call.
      chunk.lost = there - chunk.offset;
      chunk.data = loss_notice(chunk.lost);
      stream.sent = there;
    } else {
      stream.sent += chunk.data.size();
    }
    if (!stream.spool.trouble().empty()) trouble_ = stream.spool.trouble();
    if (chunk.data.empty()) continue;
    // Counted as the master counts: data as it is sent, a notice with its own size.
    total_sent_ += chunk.data.size();
    in_flight_.push_back({index, stream.sent, total_sent_});
    turn_ = index + 1;
    return chunk;
  }
  return std::nullopt;
}

void OutputFlow::acknowledge(uint64_t bytes) {
  // Never back, and never beyond what was sent, whatever the master says.
  total_acknowledged_ = std::clamp(bytes, total_acknowledged_, total_sent_);
  while (!in_flight_.empty() && in_flight_.front().total_end <= total_acknowledged_) {
    const InFlight& taken = in_flight_.front();
    streams_[taken.stream].spool.acknowledge(taken.end);
    in_flight_.pop_front();
  }
}

void OutputFlow::restart() {
  in_flight_.clear();
  total_sent_ = 0;
  total_acknowledged_ = 0;
  // What the master got and has not acknowledged is sent twice; it drops that by its offset.
  for (Stream& stream : streams_) stream.sent = stream.spool.acknowledged();
}

bool OutputFlow::all_sent(size_t stream) const {
  return streams_[stream].sent == streams_[stream].spool.end();
}

bool OutputFlow::all_acknowledged() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const Stream& stream) {
    return stream.spool.acknowledged() == stream.spool.end();
  });
}

}  // namespace longhaul
