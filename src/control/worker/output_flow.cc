#include "control/worker/output_flow.h"

#include <algorithm>

#include "longhaul/base/strings.h"

namespace longhaul {

OutputFlow::OutputFlow(const std::string& folder, size_t stream_count) {
  for (size_t i = 0; i < stream_count; ++i) {
    streams_.push_back({std::make_unique<Spool>(str_cat(folder, "/stream-", i))});
  }
}

std::optional<OutputFlow::Chunk> OutputFlow::next() {
  if (total_sent_ - total_acknowledged_ >= kWindowBytes) return std::nullopt;
  for (size_t i = 0; i < streams_.size(); ++i) {
    const size_t index = (turn_ + i) % streams_.size();
    Stream& stream = streams_[index];
    Chunk chunk{index, stream.sent, ""};
    chunk.data = stream.spool->read(chunk.offset, kChunkBytes);
    stream.sent = chunk.offset + chunk.data.size();
    if (chunk.data.empty()) continue;
    total_sent_ += chunk.data.size();
    in_flight_.push_back({index, stream.sent, total_sent_});
    turn_ = index + 1;
    return chunk;
  }
  return std::nullopt;
}

void OutputFlow::acknowledge(uint64_t bytes) {
  total_acknowledged_ = std::clamp(bytes, total_acknowledged_, total_sent_);
  while (!in_flight_.empty() && in_flight_.front().total_end <= total_acknowledged_) {
    Stream& stream = streams_[in_flight_.front().stream];
    stream.acknowledged = in_flight_.front().end;
    stream.spool->trim(stream.acknowledged);
    in_flight_.pop_front();
  }
}

void OutputFlow::restart() {
  in_flight_.clear();
  total_sent_ = 0;
  total_acknowledged_ = 0;
  for (Stream& stream : streams_) stream.sent = stream.acknowledged;
}

bool OutputFlow::all_sent(size_t stream) const {
  return streams_[stream].sent == streams_[stream].spool->end();
}

bool OutputFlow::all_acknowledged() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const Stream& stream) {
    return stream.acknowledged == stream.spool->end();
  });
}

}  // namespace longhaul
