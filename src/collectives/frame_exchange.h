// Moves sealed frames between the ranks of one group, point to point. Gloo takes a message that is
// shorter than the posted receive, so receives are posted for the most a payload can be, before
// anything is sent, and the true size stands in the frame's header: no round for sizes. A message
// that is longer would end the process inside Gloo, so a receive takes what any bucket could send.
//
// Thread safety: one thread at a time; an exchange may be handed on from one to the next.
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <memory>
#include <vector>

#include "collectives/operation_watch.h"
#include "longhaul/base/bytes.h"
#include "longhaul/base/result.h"
#include "wire/frame.h"

namespace longhaul {

// Memory for frames that is kept from one operation to the next; it only grows.
class FrameBuffer {
 public:
  // At least so many bytes; the contents are lost when it has to grow.
  MutableByteSpan room(size_t bytes);
  at::Tensor tensor(size_t bytes) const;

 private:
  at::Tensor bytes_;
};

class FrameExchange {
 public:
  FrameExchange(c10::intrusive_ptr<c10d::ProcessGroup> group,
                std::shared_ptr<OperationWatch> watch);

  // What follows belongs to this operation. Every rank gives the same operation the same number,
  // and no other one that is under way; its exchanges are its own.
  void begin(uint64_t operation) { operation_ = operation; }
  // Where a frame to `rank` in `leg` is written before it is sent: room for a header and a body.
  MutableByteSpan outgoing(int leg, Rank rank, size_t body_capacity);
  // All of an operation's receives come before its sends. Errors: CollectiveError, here and below.
  void post_receive(int leg, Rank sender, size_t body_capacity);
  // Seals the body in outgoing(leg, buffer_rank) and sends it; returns the bytes of the frame.
  size_t seal(const FrameLabel& label, int leg, Rank buffer_rank, size_t body_bytes);
  void send(int leg, Rank buffer_rank, Rank to, size_t frame_bytes);
  // Waits for the frame of `sender`; its body stays valid until finish(). kCorrupt and kStale name
  // the sender.
  ByteSpan receive(int leg, Rank sender, const FrameLabel& expected);
  // Waits for the sends; the next operation may begin.
  void finish();

  uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  static constexpr int kLegs = 2;

  // What goes to and comes from one rank in one leg.
  struct Lane {
    FrameBuffer in;
    FrameBuffer out;
    size_t capacity = 0;
    c10::intrusive_ptr<c10d::Work> receiving;
  };
  // Gloo matches messages by sender and tag. 30 bits are enough: of one group only a few operations
  // are under way at once, so numbers that wrap around do not meet.
  int tag(int leg) const { return static_cast<int>((operation_ * kLegs + leg) & 0x3fffffff); }
  Lane& lane(int leg, Rank rank) {
    return lanes_[static_cast<size_t>(leg) * lanes_.size() / kLegs + static_cast<size_t>(rank)];
  }

  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
  const std::shared_ptr<OperationWatch> watch_;
  const size_t most_body_bytes_;  // of any frame that a rank of this world may send
  std::vector<Lane> lanes_;
  std::vector<c10::intrusive_ptr<c10d::Work>> sending_;
  uint64_t operation_ = 0;
  uint64_t bytes_sent_ = 0;
};

}  // namespace longhaul
