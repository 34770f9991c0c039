// What a link has still to send: which bytes go next, in which pieces. Urgent frames go before all
// else, then small messages, then bulk in the order in which it was given. Pure: whoever has the
// connection asks for bytes and says how many of them it took.
//
// The receiver of a message may not have asked for it yet, and must keep it meanwhile. So a link
// has a window: bytes that were sent and not consumed. A message that does not fit asks (kWant) and
// goes once the receiver has a place for it (kReady), whatever the window says; those behind it
// that fit go first. So neither side ever waits for the other one's memory, and what a receiver
// keeps is bounded.
//
// Thread safety: none; the links' thread has it.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <set>
#include <vector>

#include "links/link_fault.h"
#include "links/link_frame.h"

namespace longhaul {

class Outbox {
 public:
  // Messages up to so many bytes go before larger ones.
  static constexpr size_t kSmall = size_t{64} << 10;

  explicit Outbox(uint64_t window) : window_(window) {}

  // Before everything else.
  void urgent(const LinkFrame& frame, ByteSpan body = {});
  // `bytes` stay as they are until `sent` is called: with null once the connection has taken all of
  // them. Messages of one operation keep their order.
  void message(uint64_t operation, ByteSpan bytes, Sent sent);

  void ready(uint64_t operation);
  void credit(uint64_t consumed);

  // The next bytes, in two parts of which either may be empty; both are: there is nothing to send
  // now. The same until taken().
  std::array<ByteSpan, 2> next();
  // So many of them have gone. Calls those whose message is complete.
  void taken(size_t bytes);

  // Nothing goes any more: all messages end so.
  void fail(const LinkFault& fault);
  bool empty() const { return urgent_.empty() && small_.empty() && bulk_.empty(); }

 private:
  struct Message {
    uint64_t operation = 0;
    ByteSpan bytes;
    Sent sent;
    uint64_t done = 0;  // bytes that have gone
    bool begun = false;
    bool asked = false;
  };
  using Messages = std::list<Message>;  // a piece on its way has a pointer into it

  bool fits(const Message& message);
  Message* choose(Messages& messages, std::set<uint64_t>* held_back);
  bool begin_piece();
  void end_piece();

  const uint64_t window_;
  uint64_t sent_ = 0;      // bytes of pieces, of all so far
  uint64_t consumed_ = 0;  // of these, as the receiver has said
  std::deque<std::vector<uint8_t>> urgent_;
  Messages small_;
  Messages bulk_;
  std::set<uint64_t> ready_;  // operations whose first message has a receive

  // The piece on its way, or the urgent frame.
  std::array<uint8_t, kLinkHeaderBytes> header_{};
  Message* piece_of_ = nullptr;
  Messages* piece_in_ = nullptr;
  bool is_urgent_ = false;
  uint64_t piece_bytes_ = 0;
  size_t gone_ = 0;  // of header and body together
};

}  // namespace longhaul
