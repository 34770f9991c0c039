#include "collectives/frame_exchange.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "collectives/bucket_layout.h"

namespace longhaul {
namespace {

// The most that a frame's body can be, whatever bucket and codec its sender means by mistake: the
// bound of Codec::max_payload_bytes() (0.2 % and 64 bytes more than the elements) for the largest
// share of any bucket.
size_t most_body_bytes(int ranks) {
  const size_t elements = most_elements_bytes(ranks);
  return elements + elements / 500 + 64;
}

}  // namespace

MutableByteSpan FrameBuffer::room(size_t bytes) {
  if (!bytes_.defined() || static_cast<size_t>(bytes_.numel()) < bytes) {
    bytes_ = at::empty({static_cast<int64_t>(bytes)}, at::kByte);
  }
  return {bytes_.data_ptr<uint8_t>(), static_cast<size_t>(bytes_.numel())};
}

at::Tensor FrameBuffer::tensor(size_t bytes) const {
  return bytes_.narrow(0, 0, static_cast<int64_t>(bytes));
}

FrameExchange::FrameExchange(c10::intrusive_ptr<c10d::ProcessGroup> group,
                             std::shared_ptr<OperationWatch> watch)
    : group_(std::move(group)),
      watch_(std::move(watch)),
      most_body_bytes_(most_body_bytes(group_->getSize())),
      lanes_(static_cast<size_t>(kLegs * group_->getSize())) {}

MutableByteSpan FrameExchange::outgoing(int leg, Rank rank, size_t body_capacity) {
  return lane(leg, rank).out.room(kFrameHeaderBytes + body_capacity);
}

void FrameExchange::post_receive(int leg, Rank sender, size_t body_capacity) {
  Lane& from = lane(leg, sender);
  // Gloo ends the process when a message is longer than its receive. With room for the largest
  // frame of this world a frame of another bucket is received too, and then refused because of its
  // label.
  from.capacity = kFrameHeaderBytes + std::max(body_capacity, most_body_bytes_);
  // The header of an earlier frame in this buffer must not pass for that of a message that is
  // shorter than a header: nobody tells how long the message was that Gloo received.
  std::memset(from.in.room(from.capacity).data(), 0, kFrameHeaderBytes);
  std::vector<at::Tensor> tensors{from.in.tensor(from.capacity)};
  from.receiving = group_->recv(tensors, sender, tag(leg));
}

size_t FrameExchange::seal(const FrameLabel& label, int leg, Rank buffer_rank, size_t body_bytes) {
  const MutableByteSpan frame = lane(leg, buffer_rank).out.room(kFrameHeaderBytes + body_bytes);
  const size_t frame_bytes = seal_frame(label, body_bytes, frame);
  if (watch_->frame_filter()) watch_->frame_filter()(label, frame.first(frame_bytes));
  return frame_bytes;
}

void FrameExchange::send(int leg, Rank buffer_rank, Rank to, size_t frame_bytes) {
  std::vector<at::Tensor> tensors{lane(leg, buffer_rank).out.tensor(frame_bytes)};
  sending_.push_back(group_->send(tensors, to, tag(leg)));
  bytes_sent_ += frame_bytes;
}

ByteSpan FrameExchange::receive(int leg, Rank sender, const FrameLabel& expected) {
  Lane& from = lane(leg, sender);
  from.receiving->wait();
  from.receiving.reset();
  const Result<ByteSpan> body = open_frame(expected, from.in.room(0).first(from.capacity));
  if (!body) {
    // The caller puts the name of its operation before what is thrown: "... of step 17): it
    // failed".
    watch_->settle_notes("it");
    throw CollectiveError(body.failure().kind, body.failure().message, sender);
  }
  return *body;
}

void FrameExchange::finish() {
  for (const auto& work : sending_) work->wait();
  sending_.clear();
  bytes_sent_ = 0;
}

}  // namespace longhaul
