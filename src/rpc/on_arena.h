// A protobuf message with memory of its own: what is in it lies in a few blocks, instead of a piece
// of the heap for each message and string of thousands, which one thread allocates and another one
// frees.
#pragma once

#include <google/protobuf/arena.h>

namespace longhaul {

template <typename Message>
class OnArena {
 public:
  Message& operator*() { return *message_; }
  Message* operator->() { return message_; }

 private:
  google::protobuf::Arena arena_;
  Message* const message_ = google::protobuf::Arena::CreateMessage<Message>(&arena_);
};

}  // namespace longhaul
