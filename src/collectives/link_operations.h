// Operations over links as steps: what a strand sends and receives, and what it does once all of
// that has come. An operation has one strand or several, which go on side by side; it ends when all
// of them have, or with the first fault, and keeps its memory until nothing touches it any more.
//
// Steps run on one thread of ours (lh-steps), never on that of the links: they add up tensors, and
// complete futures, whose callbacks are the user's and may do anything.
//
// Thread safety: a strand belongs to whoever made it until then(), and to the thread afterwards.
#pragma once

#include <atomic>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/queue.h"
#include "base/thread.h"
#include "links/links.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

// What links say of an operation, as an exception.
class LinkError : public Error {
 public:
  explicit LinkError(const LinkFault& fault)
      : Error(fault.kind, fault.message), peer_(fault.peer) {}
  Rank peer() const { return peer_; }

 private:
  Rank peer_;
};

class LinkOperations;

class LinkOperation : public std::enable_shared_from_this<LinkOperation> {
 public:
  // Called on the thread of the steps, once; null: all strands have ended well.
  using Ended = std::function<void(const std::exception_ptr& error)>;

  // Memory that lives as long as the operation.
  MutableByteSpan memory(size_t bytes);

 private:
  friend class LinkOperations;
  friend class LinkStrand;

  void end(const std::exception_ptr& error);
  void strand_ended();

  LinkOperations* operations_ = nullptr;
  uint64_t number_ = 0;
  Ended ended_;
  std::atomic<int> strands_{1};  // one is whoever still makes them
  std::atomic<bool> over_ = false;
  std::deque<std::vector<uint8_t>> memory_;
};

class LinkStrand : public std::enable_shared_from_this<LinkStrand> {
 public:
  // Of one leg, messages between two ranks are in one order on both; legs overtake each other.
  enum class Leg { kFirst, kSecond };
  void send(Rank to, ByteSpan bytes, Leg leg = Leg::kFirst);
  void receive(Rank from, MutableByteSpan into, Leg leg = Leg::kFirst);
  // A message of at most so many bytes.
  void receive_up_to(Rank from, MutableByteSpan into);
  // Once all that was given so far is done; the last step of a strand gives nothing more.
  void then(std::function<void()> step);
  // The same, and with it the strand ends.
  void end();

 private:
  friend class LinkOperations;

  explicit LinkStrand(std::shared_ptr<LinkOperation> operation)
      : operation_(std::move(operation)) {}
  void get(Rank from, MutableByteSpan into, Leg leg, bool exactly);
  void transferred(const LinkFault* fault);
  void go_on();

  const std::shared_ptr<LinkOperation> operation_;
  std::atomic<int> open_{1};  // transfers, and one until then()
  std::function<void()> step_;
  Mutex mutex_;
  std::optional<LinkFault> fault_ LONGHAUL_GUARDED_BY(mutex_);
};

class LinkOperations {
 public:
  explicit LinkOperations(std::unique_ptr<Links> links);
  // Ends what is under way with a fault. From any thread but that of the steps.
  ~LinkOperations();
  LinkOperations(const LinkOperations&) = delete;
  LinkOperations& operator=(const LinkOperations&) = delete;

  // `number`: what the ranks call it, below 2^62. An operation that has not ended within `limit`
  // ends with an error that says so, and the links with it; 0: none.
  std::shared_ptr<LinkOperation> begin(uint64_t number, milliseconds limit,
                                       LinkOperation::Ended ended);
  std::shared_ptr<LinkStrand> strand(const std::shared_ptr<LinkOperation>& operation);
  // All strands are made.
  void made(const std::shared_ptr<LinkOperation>& operation) { operation->strand_ended(); }

  Links& links() { return *links_; }
  bool on_own_thread() const;

 private:
  friend class LinkOperation;
  friend class LinkStrand;

  void run();
  void expire(Instant now);

  std::unique_ptr<Links> links_;
  Queue<std::function<void()>> steps_;
  struct Limited {
    std::weak_ptr<LinkOperation> operation;
    Instant at;
    milliseconds limit;
  };
  std::deque<Limited> limited_;  // the thread's
  bool last_ = false;            // the thread's: it ends when there is nothing left to do
  std::atomic<std::thread::id> thread_id_{};
  Thread thread_;  // last: it uses all of the above
};

}  // namespace longhaul
