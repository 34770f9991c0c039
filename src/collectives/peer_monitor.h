// Who is gone, and who went first. Gloo names the wrong rank when one dies: a victim that closes
// its connections a moment later looks the same. So every two ranks hold one more TCP connection,
// on which they say "I am here" and nothing else, and one thread watches them all:
//   - a connection that closes without a goodbye: that rank is gone; the first one is the culprit;
//   - a rank that failed says because of whom before it stops (a fault), and everybody stops at
//     once;
//   - a rank that leaves in order says goodbye: no failure in itself, but the likely reason if
//     others then fail for want of it;
//   - a rank that is silent for long is a suspect, no more: silence is not failure.
// It also carries notes from rank to rank (step_notes.h), in order, without looking into them.
// The monitor only knows and tells; it ends nothing and nobody.
//
// Wire format, all little-endian: a hello of 32 bytes both ways (magic, rank, generation, token),
// then records of 8 bytes (type, error kind, bytes of text, culprit rank) each followed by its
// text.
//
// Thread safety: all methods from any thread, connect() once.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread.h"
#include "base/unique_fd.h"
#include "longhaul/agent/ids.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/result.h"

namespace longhaul {

// The reason why this world cannot go on.
struct PeerFault {
  ErrorKind kind = ErrorKind::kPeerLost;
  Rank culprit = -1;
  std::string message;  // "rank 2 is gone: its connection closed"
};

class PeerMonitor {
 public:
  struct Options {
    Rank rank = 0;
    int size = 1;
    Generation generation = 0;
    // Secret of this world: a stranger without it is dropped.
    std::array<uint8_t, 16> token = {};
    // Address of this host to listen on.
    std::string address;
    milliseconds beat_interval = std::chrono::seconds(1);
    milliseconds silence_limit = std::chrono::seconds(3);
    // How many operations this rank has begun; told with every beat. May be empty.
    std::function<uint64_t()> progress;
    // A note of another rank, on the monitor's thread; false: it makes no sense. May be empty.
    std::function<bool(Rank, std::string_view)> on_note;
  };
  // A rank that has begun fewer operations than this one.
  struct Laggard {
    Rank rank = -1;
    uint64_t begun = 0;
    uint64_t own = 0;
  };
  struct Endpoint {
    std::string address;
    uint16_t port = 0;
  };
  // Called on the monitor's thread: once, as soon as a fault is known, and then about every beat.
  using FaultListener = std::function<void(const PeerFault&)>;

  // Listens and starts the thread. Errors: as listen_tcp().
  static Result<std::unique_ptr<PeerMonitor>> start(const Options& options, FaultListener listener);
  // Says goodbye to everybody and joins the thread.
  ~PeerMonitor();

  uint16_t port() const { return port_; }

  // Connects to every lower rank and waits for every higher one; endpoints[r] is where rank r
  // listens. From then on nobody can connect. Errors: kDeadline, naming the ranks that are missing.
  Result<void> connect(const std::vector<Endpoint>& endpoints, Instant deadline);

  // Tells every rank that this one fails, and why. The first fault of a world stands.
  void announce(const PeerFault& fault);
  // Takes a note of at most 1,024 bytes to every other rank.
  void say(const std::string& note);

  // The first fault known, by this rank's own eyes or by word of another.
  std::optional<PeerFault> fault() const;
  // As fault(), waiting up to `patience` for one: connections close one after the other.
  std::optional<PeerFault> wait_for_fault(milliseconds patience) const;
  // The rank that left in order first; -1: none.
  Rank left() const;
  // The rank heard of least recently, if longer ago than the silence limit; -1: none.
  Rank silent() const;
  // The one that is furthest behind this rank, by its last beat. Where every rank waits for the
  // same operation but one that never began it, that is the one.
  std::optional<Laggard> laggard() const;
  // The culprit of the fault, else who left, else who is silent, else -1.
  Rank suspect() const;

 private:
  struct Peer {
    UniqueFd fd;
    Rank rank = -1;         // -1: said no hello yet
    bool accepted = false;  // it connected to us: it says hello first, then gets ours
    bool greeted = false;   // its hello was right
    std::vector<uint8_t> in;
    std::vector<uint8_t> out;
    Instant last_heard;
    bool left = false;  // it said goodbye
  };

  PeerMonitor(const Options& options, FaultListener listener, UniqueFd listening, UniqueFd wake,
              uint16_t port);

  void run();
  void poll_once();
  void accept_stranger();
  void read_from(Peer& peer, std::vector<PeerFault>* closed);
  bool parse(Peer& peer);
  bool parse_hello(Peer& peer);
  void write_to(Peer& peer);
  void send_beats(Instant now);
  void send_notes(const std::vector<std::string>& notes);
  void take_commands();
  void send_hello(Peer& peer);
  void raise(const PeerFault& fault);
  void notice_silence(Instant now);
  void wake() const;
  std::string missing_ranks() const LONGHAUL_REQUIRES(mutex_);

  const Options options_;
  const FaultListener listener_;
  const uint16_t port_;
  UniqueFd listening_;
  UniqueFd wake_;

  // Used by the thread alone, as are the sockets: other threads leave what they want in the fields
  // below and wake it.
  std::vector<Peer> peers_;
  Instant next_beat_;
  bool stopping_ = false;

  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<Peer> connected_ LONGHAUL_GUARDED_BY(mutex_);  // for the thread to take
  std::vector<PeerFault> announcements_ LONGHAUL_GUARDED_BY(mutex_);
  std::vector<std::string> said_ LONGHAUL_GUARDED_BY(mutex_);  // notes to send
  bool stop_ LONGHAUL_GUARDED_BY(mutex_) = false;
  std::vector<bool> present_ LONGHAUL_GUARDED_BY(mutex_);  // ever greeted
  std::optional<PeerFault> fault_ LONGHAUL_GUARDED_BY(mutex_);
  std::vector<uint64_t> progress_ LONGHAUL_GUARDED_BY(mutex_);  // operations begun, by rank
  Rank left_ LONGHAUL_GUARDED_BY(mutex_) = -1;
  Rank silent_ LONGHAUL_GUARDED_BY(mutex_) = -1;

  Thread thread_;  // last: it uses all of the above
};

}  // namespace longhaul
