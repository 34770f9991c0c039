#include "links/inbox.h"

#include <algorithm>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Messages of one link that wait for a receive at once, and have said so. A sender asks for the
// next one of an operation only when it has sent the one before.
constexpr size_t kMaxWanted = 100'000;

}  // namespace

Failure Inbox::nonsense(const std::string& what) const {
  return {ErrorKind::kCorrupt, str_cat(who_, " sent bytes that make no sense: ", what)};
}

// The rest of the body, if one is under way, and the next header behind it: so a message of one
// piece takes one read, not two.
std::array<MutableByteSpan, 2> Inbox::room() {
  const MutableByteSpan header = MutableByteSpan(header_).subspan(header_have_);
  if (!in_body_) return {header, MutableByteSpan()};
  return {body_room(), header};
}

MutableByteSpan Inbox::body_room() {
  const size_t left = frame_.length - body_have_;
  Message& message = lanes_.at(frame_.operation).messages.back();
  if (message.unwanted) {
    nowhere_.resize(kMaxPieceBytes);
    return MutableByteSpan(nowhere_).subspan(body_have_, left);
  }
  const uint64_t at = message.come + body_have_;
  if (message.receive) return message.receive->into.subspan(at, left);
  return MutableByteSpan(message.kept).subspan(at, left);
}

Result<void> Inbox::take(size_t bytes) {
  if (in_body_) {
    const size_t of_body = std::min<size_t>(bytes, frame_.length - body_have_);
    body_have_ += of_body;
    bytes -= of_body;
    if (body_have_ < frame_.length) return {};
    if (Result<void> ended = end_body(); !ended) return ended;
  }
  header_have_ += bytes;
  if (header_have_ < kLinkHeaderBytes) return {};
  header_have_ = 0;
  return end_header();
}

Result<void> Inbox::end_header() {
  const Result<LinkFrame> frame = read_link_header(header_);
  if (!frame) return nonsense(frame.failure().message);
  frame_ = *frame;
  body_have_ = 0;
  switch (frame_.kind) {
    case FrameKind::kHello:
      return nonsense("a second hello");
    case FrameKind::kPiece: {
      Lane& lane = lanes_[frame_.operation];
      if (frame_.offset == 0) {
        if (Result<void> begun = begin_message(lane, frame_); !begun) return begun;
      } else if (lane.messages.empty() || lane.messages.back().whole() ||
                 lane.messages.back().come != frame_.offset ||
                 lane.messages.back().total != frame_.total) {
        return nonsense(str_cat("a piece from ", frame_.offset, " of ", frame_.total,
                                " that is not the next one of its message"));
      }
      if (frame_.length == 0) return end_body();
      in_body_ = true;
      break;
    }
    case FrameKind::kWant: {
      const auto lane = lanes_.find(frame_.operation);
      tell_credit();
      if (lane != lanes_.end() && !lane->second.waiting.empty()) {
        listener_.answer({FrameKind::kReady, frame_.operation, 0, 0, 0});
      } else if (wanted_.size() >= kMaxWanted) {
        return nonsense("it asks for room for too many messages at once");
      } else {
        wanted_.insert(frame_.operation);
      }
      break;
    }
    case FrameKind::kReady:
    case FrameKind::kCredit:
      listener_.about_ours(frame_);
      break;
    case FrameKind::kGoodbye:
      listener_.goodbye();
      break;
  }
  return {};
}

Result<void> Inbox::begin_message(Lane& lane, const LinkFrame& frame) {
  if (!lane.messages.empty() && !lane.messages.back().whole()) {
    return nonsense("a message that begins before the last one has ended");
  }
  Message message;
  message.total = frame.total;
  if (!lane.waiting.empty()) {
    Receive receive = std::move(lane.waiting.front());
    lane.waiting.pop_front();
    if (const auto fault = why_it_does_not_fit(receive, frame.total)) {
      message.unwanted = true;
      receive.received(&*fault, 0);
    } else {
      message.receive = std::move(receive);
    }
  } else {
    if (frame.total + kMessageCost > window_ - std::min(window_, kept_bytes_)) {
      return nonsense(str_cat(frame.total, " bytes beyond what may wait here for a receive"));
    }
    message.kept.resize(frame.total);
    kept_bytes_ += frame.total + kMessageCost;
  }
  wanted_.erase(frame.operation);
  lane.messages.push_back(std::move(message));
  return {};
}

Result<void> Inbox::end_body() {
  in_body_ = false;
  Lane& lane = lanes_.at(frame_.operation);
  Message& message = lane.messages.back();
  if (!message.unwanted) {
    // The room that is left begins where this piece has ended.
    body_have_ = 0;
    const ByteSpan body = body_room().first(frame_.length);
    if (link_checksum(body) != frame_.body_checksum) {
      return nonsense("a piece whose checksum is wrong");
    }
  }
  body_have_ = 0;
  message.come += frame_.length;
  frame_.length = 0;
  if (message.whole()) end_message(frame_.operation, lane);
  return {};
}

void Inbox::end_message(uint64_t operation, Lane& lane) {
  Message& message = lane.messages.back();
  if (!message.unwanted && !message.receive) return;  // it is kept
  const uint64_t total = message.total;
  const std::optional<Receive> receive = std::move(message.receive);
  lane.messages.pop_back();
  tidy(operation);
  consumed(total);
  if (receive) receive->received(nullptr, total);
}

std::optional<LinkFault> Inbox::why_it_does_not_fit(const Receive& receive, uint64_t total) const {
  if (total == receive.into.size() || (!receive.exactly && total < receive.into.size())) {
    return std::nullopt;
  }
  return LinkFault{ErrorKind::kCorrupt, -1,
                   str_cat(who_, " sent ", total, " bytes where ",
                           receive.exactly ? "" : "at most ", receive.into.size(),
                           " are expected: it is at another step, or runs "
                           "another program")};
}

void Inbox::receive(uint64_t operation, MutableByteSpan into, bool exactly, Received received) {
  Lane& lane = lanes_[operation];
  Receive receive{into, exactly, std::move(received)};
  // Messages that have come without a receive are before one that goes into another one's memory.
  const auto kept = std::find_if(lane.messages.begin(), lane.messages.end(),
                                 [](const Message& one) { return !one.receive && !one.unwanted; });
  if (kept == lane.messages.end() && failed_) {
    tidy(operation);
    return receive.received(&*failed_, 0);
  }
  if (kept == lane.messages.end()) {
    lane.waiting.push_back(std::move(receive));
    if (wanted_.erase(operation) > 0) {
      listener_.answer({FrameKind::kReady, operation, 0, 0, 0});
    }
    return;
  }
  kept_bytes_ -= kept->total + kMessageCost;
  if (const auto fault = why_it_does_not_fit(receive, kept->total)) {
    kept->kept = {};
    kept->unwanted = true;
    if (kept->whole()) {
      consumed(kept->total);
      lane.messages.erase(kept);
    }
    tidy(operation);
    return receive.received(&*fault, 0);
  }
  // Also what has come of the piece that is under way.
  const bool under_way = !kept->whole();
  const uint64_t have = kept->come + (under_way && frame_.operation == operation ? body_have_ : 0);
  std::copy_n(kept->kept.begin(), have, into.begin());
  kept->kept = {};
  if (under_way) {
    kept->receive = std::move(receive);
    return;
  }
  const uint64_t total = kept->total;
  lane.messages.erase(kept);
  tidy(operation);
  consumed(total);
  receive.received(nullptr, total);
}

void Inbox::consumed(uint64_t bytes) {
  consumed_ += bytes + kMessageCost;
  if (consumed_ - told_ >= window_ / 4) tell_credit();
}

void Inbox::tell_credit() {
  if (told_ == consumed_) return;
  told_ = consumed_;
  listener_.answer({FrameKind::kCredit, 0, 0, consumed_, 0});
}

// A lane that holds nothing is forgotten: operations are numbered on and on.
void Inbox::tidy(uint64_t operation) {
  const auto lane = lanes_.find(operation);
  if (lane != lanes_.end() && lane->second.waiting.empty() && lane->second.messages.empty()) {
    lanes_.erase(lane);
  }
}

void Inbox::fail(const LinkFault& fault) {
  failed_ = fault;
  in_body_ = false;
  std::vector<Receive> waiting;
  for (auto lane = lanes_.begin(); lane != lanes_.end();) {
    for (Receive& receive : lane->second.waiting) waiting.push_back(std::move(receive));
    lane->second.waiting.clear();
    std::deque<Message>& messages = lane->second.messages;
    if (!messages.empty() && !messages.back().whole()) {
      if (messages.back().receive) waiting.push_back(std::move(*messages.back().receive));
      messages.pop_back();
    }
    lane = messages.empty() ? lanes_.erase(lane) : std::next(lane);
  }
  for (const Receive& receive : waiting) receive.received(&fault, 0);
}

}  // namespace longhaul
