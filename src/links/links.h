// Bytes between the ranks of one generation: one connection a pair of ranks, over which many
// operations run at once. Whoever sends and receives gives memory and a callback, and waits for
// nothing; one thread moves all bytes.
//
//   auto links = Links::start(options).value_or_throw();
//   ... tell the others links->port(), learn theirs ...
//   links->connect(endpoints, deadline);
//   links->receive(1, operation, into, true, [](const LinkFault* fault, size_t) { ... });
//   links->send(1, operation, bytes, [](const LinkFault* fault) { ... });
//
// A rank that is gone ends what waits for it, an abort() ends everything, both with the reason and
// within milliseconds. Sizes and orders that do not fit are errors that name the sender
// (inbox.h); nothing ends the process.
//
// Thread safety: all methods from any thread, callbacks included, but for connect(), once, and
// close(), which is not called from a callback.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/thread.h"
#include "base/unique_fd.h"
#include "links/inbox.h"
#include "links/link_fault.h"
#include "links/outbox.h"
#include "longhaul/agent/ids.h"
#include "longhaul/base/bytes.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/result.h"

namespace longhaul {

class Links {
 public:
  struct Options {
    Rank rank = 0;
    int size = 1;
    Generation generation = 0;
    // Secret of this world: a stranger without it is dropped.
    std::array<uint8_t, 16> token = {};
    // Address of this host to listen on.
    std::string address;
    // What each link may keep here of messages that nobody has asked for yet; the same on all
    // ranks.
    uint64_t window = uint64_t{64} << 20;
  };
  struct Endpoint {
    std::string address;
    uint16_t port = 0;
  };

  // Listens and starts the thread. Errors: as listen_tcp().
  static Result<std::unique_ptr<Links>> start(const Options& options);
  // Sends what was given, for up to a second, and says goodbye. What has not gone by then ends with
  // a fault; what has gone arrives.
  void close();
  // The same.
  ~Links();
  Links(const Links&) = delete;
  Links& operator=(const Links&) = delete;

  uint16_t port() const { return port_; }

  // Dials all lower ranks at once and waits for all higher ones; endpoints[r] is where rank r
  // listens. From then on nobody can connect. Errors: kUnavailable (a rank cannot be reached),
  // kDeadline, naming the ranks that are missing.
  Result<void> connect(const std::vector<Endpoint>& endpoints, Instant deadline);

  // Here and below: after close() the callback comes at once, on the caller's thread, with a fault.
  //
  // `bytes` stay as they are until `sent` is called, which says that they are on their way, not
  // that they have come. Precondition here and below: the rank is another one of this world.
  void send(Rank to, uint64_t operation, ByteSpan bytes, Sent sent);
  // `into` is written to until `received` is called. A message has at most its size, or with
  // `exactly` no other one. Both sides use an operation for the same thing; its messages come in
  // the order in which they were sent.
  void receive(Rank from, uint64_t operation, MutableByteSpan into, bool exactly,
               Received received);

  // Ends everything that is under way, and whatever comes later; the first reason stands.
  void abort(const LinkFault& why);

  // Calls `visit` for each connection, which stays open meanwhile.
  void for_each_connection(const std::function<void(int fd)>& visit) const
      LONGHAUL_EXCLUDES(descriptors_mutex_);
  // Of messages, to all ranks.
  uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  enum class State { kAbsent, kUp, kLost };
  struct Peer {
    UniqueFd fd;
    State state = State::kAbsent;
    std::unique_ptr<Outbox> outbox;
    std::unique_ptr<Inbox> inbox;
    std::optional<LinkFault> fault;  // why it is not up any more
    bool waits_to_write = false;
    bool goodbye = false;  // it has said so
  };
  // A connection whose other side has not said who it is.
  struct Stranger {
    UniqueFd fd;
    std::vector<uint8_t> hello;
    Rank dialled = -1;  // this rank, from our side
  };
  struct Send {
    Rank to;
    uint64_t operation;
    ByteSpan bytes;
    Sent sent;
  };
  struct Receive {
    Rank from;
    uint64_t operation;
    MutableByteSpan into;
    bool exactly;
    Received received;
  };
  struct Given {
    std::vector<Send> sends;
    std::vector<Receive> receives;
    std::vector<std::pair<Rank, UniqueFd>> dialled;
    std::optional<LinkFault> abort;
    bool stop = false;
  };

  Links(const Options& options, UniqueFd listening, UniqueFd wake, UniqueFd epoll, uint16_t port);

  void run();
  void turn(int patience_ms);
  void wake() const;
  void take_what_was_given();
  bool watch(int fd);
  void accept_strangers();
  void say_hello(int fd);
  void hear_stranger(int fd);
  void welcome(Stranger stranger, Rank rank);
  std::optional<Rank> rank_of(const Stranger& stranger) const;
  bool read_from(Rank rank);
  void write_to(Rank rank);
  void lose(Rank rank, const LinkFault& fault);
  void fail_all(const LinkFault& why);
  void end();
  void say_goodbye();
  Peer& peer(Rank rank) { return peers_[static_cast<size_t>(rank)]; }
  std::string missing_ranks() const LONGHAUL_REQUIRES(mutex_);

  const Options options_;
  const uint16_t port_;
  std::atomic<uint64_t> bytes_sent_ = 0;

  // The thread's alone.
  UniqueFd listening_;
  const UniqueFd wake_;
  const UniqueFd epoll_;
  std::vector<Peer> peers_;  // by rank
  std::vector<Stranger> strangers_;
  std::optional<LinkFault> aborted_;
  bool stopping_ = false;

  mutable Mutex mutex_;
  mutable CondVar changed_;
  Given given_ LONGHAUL_GUARDED_BY(mutex_);
  bool woken_ LONGHAUL_GUARDED_BY(mutex_) = false;
  std::optional<LinkFault> closed_ LONGHAUL_GUARDED_BY(mutex_);
  std::vector<bool> present_ LONGHAUL_GUARDED_BY(mutex_);
  std::optional<LinkFault> why_not_ LONGHAUL_GUARDED_BY(mutex_);  // connect() can never succeed

  // Guards the closing of descriptors against those who look at them.
  mutable Mutex descriptors_mutex_;

  Thread thread_;  // last: it uses all of the above
};

}  // namespace longhaul
