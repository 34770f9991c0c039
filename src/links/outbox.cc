#include "links/outbox.h"

#include <algorithm>
#include <utility>

namespace longhaul {

void Outbox::urgent(const LinkFrame& frame, ByteSpan body) {
  std::vector<uint8_t> bytes(kLinkHeaderBytes + body.size());
  write_link_header(frame, body, bytes.data());
  std::copy(body.begin(), body.end(), bytes.begin() + kLinkHeaderBytes);
  urgent_.push_back(std::move(bytes));
}

void Outbox::message(uint64_t operation, ByteSpan bytes, Sent sent) {
  // Also a small one waits for a large one of its operation.
  const bool behind_bulk = std::any_of(bulk_.begin(), bulk_.end(), [&](const Message& earlier) {
    return earlier.operation == operation;
  });
  Messages& messages = bytes.size() <= kSmall && !behind_bulk ? small_ : bulk_;
  messages.push_back({operation, bytes, std::move(sent)});
}

// One that was not asked for is nonsense and is not kept.
void Outbox::ready(uint64_t operation) {
  for (const Messages* messages : {&small_, &bulk_}) {
    for (const Message& message : *messages) {
      if (message.operation != operation || !message.asked || message.begun) continue;
      ready_.insert(operation);
      return;
    }
  }
}

// A number that is lower than an earlier one, or more than was sent, is nonsense and is not used.
void Outbox::credit(uint64_t consumed) {
  if (consumed > consumed_ && consumed <= sent_) consumed_ = consumed;
}

// Asks for room, once, where there is none.
bool Outbox::fits(const Message& message) {
  const uint64_t under_way = sent_ - consumed_;
  return under_way + message.bytes.size() + kMessageCost <= window_ ||
         ready_.contains(message.operation);
}

// The first that may go: one that was begun, else the first that fits. Of an operation whose first
// message must wait, none may go.
Outbox::Message* Outbox::choose(Messages& messages, std::set<uint64_t>* held_back) {
  for (Message& message : messages) {
    if (message.begun) return &message;
    if (held_back->contains(message.operation)) continue;
    if (fits(message)) return &message;
    held_back->insert(message.operation);
    if (!std::exchange(message.asked, true)) {
      urgent({FrameKind::kWant, message.operation, message.bytes.size(), 0, 0});
    }
  }
  return nullptr;
}

bool Outbox::begin_piece() {
  gone_ = 0;
  if (!urgent_.empty()) {
    is_urgent_ = true;
    return true;
  }
  std::set<uint64_t> held_back;
  piece_in_ = &small_;
  Message* message = choose(small_, &held_back);
  if (message == nullptr) {
    piece_in_ = &bulk_;
    message = choose(bulk_, &held_back);
  }
  if (message == nullptr) {
    // What was asked for just now is urgent.
    is_urgent_ = !urgent_.empty();
    return is_urgent_;
  }
  if (!std::exchange(message->begun, true)) {
    sent_ += kMessageCost;
    ready_.erase(message->operation);
  }
  piece_of_ = message;
  piece_bytes_ = std::min<uint64_t>(kMaxPieceBytes, message->bytes.size() - message->done);
  const ByteSpan body = message->bytes.subspan(message->done, piece_bytes_);
  write_link_header(
      {FrameKind::kPiece, message->operation, message->bytes.size(), message->done, 0}, body,
      header_.data());
  return true;
}

std::array<ByteSpan, 2> Outbox::next() {
  if (piece_of_ == nullptr && !is_urgent_ && !begin_piece()) return {};
  if (is_urgent_) return {ByteSpan(urgent_.front()).subspan(gone_), ByteSpan()};
  const ByteSpan body = piece_of_->bytes.subspan(piece_of_->done, piece_bytes_);
  if (gone_ < kLinkHeaderBytes) return {ByteSpan(header_).subspan(gone_), body};
  return {body.subspan(gone_ - kLinkHeaderBytes), ByteSpan()};
}

void Outbox::taken(size_t bytes) {
  gone_ += bytes;
  if (is_urgent_ && gone_ == urgent_.front().size()) {
    is_urgent_ = false;
    urgent_.pop_front();
  } else if (piece_of_ != nullptr && gone_ == kLinkHeaderBytes + piece_bytes_) {
    end_piece();
  }
}

void Outbox::end_piece() {
  Message* const message = std::exchange(piece_of_, nullptr);
  sent_ += piece_bytes_;
  message->done += piece_bytes_;
  if (message->done < message->bytes.size()) return;
  const Sent sent = std::move(message->sent);
  piece_in_->remove_if([message](const Message& one) { return &one == message; });
  sent(nullptr);
}

void Outbox::fail(const LinkFault& fault) {
  piece_of_ = nullptr;
  is_urgent_ = false;
  urgent_.clear();
  for (Messages* messages : {&small_, &bulk_}) {
    for (const Message& message : std::exchange(*messages, {})) message.sent(&fault);
  }
}

}  // namespace longhaul
