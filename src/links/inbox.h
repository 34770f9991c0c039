// What comes on a link: bytes become frames, frames the messages that somebody waits for. Pieces of
// a message whose receive is there go straight into its memory; others are kept until it comes,
// within the window that the sender knows. Sizes are checked before memory is given: a message that
// does not fit its receive ends that receive with an error that names the sender, and bytes that
// make no sense end the link. Pure: whoever has the connection asks where bytes belong and says how
// many came.
//
// Thread safety: none; the links' thread has it.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "links/link_fault.h"
#include "links/link_frame.h"

namespace longhaul {

class Inbox {
 public:
  struct Listener {
    // To be answered with an urgent frame.
    std::function<void(const LinkFrame& frame)> answer;
    // Of the other direction: kReady and kCredit.
    std::function<void(const LinkFrame& frame)> about_ours;
    std::function<void()> goodbye;
  };
  // `who`: "rank 2", for messages. Hellos were heard before.
  Inbox(std::string who, uint64_t window, Listener listener)
      : who_(std::move(who)), window_(window), listener_(std::move(listener)) {}

  // Where the next bytes of the connection belong: first the one, then the other.
  std::array<MutableByteSpan, 2> room();
  // So many have come. Errors: kCorrupt; the connection is of no more use.
  Result<void> take(size_t bytes);

  // `into` is written to until `received` is called. A message has at most its size, or with
  // `exactly` no other one. Receives of one operation take its messages in turn.
  void receive(uint64_t operation, MutableByteSpan into, bool exactly, Received received);

  // Whoever waits ends so, and whoever comes later, and memory of theirs is not touched any more.
  // Messages that have come whole are still to be had: their sender may have left since.
  void fail(const LinkFault& fault);

  uint64_t kept_bytes() const { return kept_bytes_; }

 private:
  struct Receive {
    MutableByteSpan into;
    bool exactly = true;
    Received received;
  };
  // A message of which at least one piece has come.
  struct Message {
    uint64_t total = 0;
    uint64_t come = 0;
    std::optional<Receive> receive;  // where it goes
    std::vector<uint8_t> kept;       // without one
    bool unwanted = false;           // its receive has ended with an error: its bytes go nowhere
    bool whole() const { return come == total; }
  };
  // Of one operation.
  struct Lane {
    std::deque<Receive> waiting;   // no message has come for these
    std::deque<Message> messages;  // all but the last are whole, and no receive has come for them
  };

  MutableByteSpan body_room();
  Result<void> end_header();
  Result<void> end_body();
  Result<void> begin_message(Lane& lane, const LinkFrame& frame);
  void end_message(uint64_t operation, Lane& lane);
  std::optional<LinkFault> why_it_does_not_fit(const Receive& receive, uint64_t total) const;
  void consumed(uint64_t bytes);
  void tell_credit();
  void tidy(uint64_t operation);
  Failure nonsense(const std::string& what) const;

  const std::string who_;
  const uint64_t window_;
  const Listener listener_;
  std::map<uint64_t, Lane> lanes_;
  std::set<uint64_t> wanted_;  // the sender waits for a receive
  uint64_t kept_bytes_ = 0;    // of messages without a receive
  uint64_t consumed_ = 0;
  uint64_t told_ = 0;  // of consumed_

  std::array<uint8_t, kLinkHeaderBytes> header_{};
  size_t header_have_ = 0;
  bool in_body_ = false;  // of frame_
  std::optional<LinkFault> failed_;
  LinkFrame frame_;
  size_t body_have_ = 0;
  std::vector<uint8_t> nowhere_;  // where bytes go that nobody wants any more
};

}  // namespace longhaul
