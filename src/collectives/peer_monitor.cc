#include "collectives/peer_monitor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "base/log.h"
#include "longhaul/base/bytes.h"
#include "longhaul/base/strings.h"
#include "wire/socket.h"

namespace longhaul {
namespace {

constexpr uint32_t kMagic = 0x314d484c;  // "LHM1"
constexpr size_t kHelloBytes = 32;
constexpr size_t kRecordBytes = 8;
constexpr size_t kMaxTextBytes = 1024;
// Connections that have not said hello, beside one of each rank of the world. Beyond so many the
// oldest is dropped, so that nobody can use up this process's descriptors.
constexpr size_t kMaxStrangers = 64;

enum class RecordType : uint8_t { kBeat = 1, kGoodbye = 2, kFault = 3, kNote = 4 };

// A kind that a newer version knows and this one does not is taken for an internal error: the fault
// itself must not be lost.
ErrorKind kind_of(uint8_t number) {
  constexpr auto kLast = static_cast<uint8_t>(ErrorKind::kDenied);
  return number <= kLast ? static_cast<ErrorKind>(number) : ErrorKind::kInternal;
}

void append_record(std::vector<uint8_t>& out, RecordType type, const PeerFault& fault) {
  const size_t text_bytes = std::min(fault.message.size(), kMaxTextBytes);
  uint8_t record[kRecordBytes];
  record[0] = static_cast<uint8_t>(type);
  record[1] = static_cast<uint8_t>(fault.kind);
  store<uint16_t>(record + 2, static_cast<uint16_t>(text_bytes));
  store<int32_t>(record + 4, fault.culprit);
  out.insert(out.end(), record, record + kRecordBytes);
  out.insert(out.end(), fault.message.begin(), fault.message.begin() + text_bytes);
}

// The text of a beat is how many operations its rank has begun.
void append_beat(std::vector<uint8_t>& out, uint64_t progress) {
  PeerFault beat;
  beat.message.resize(sizeof(progress));
  store(reinterpret_cast<uint8_t*>(beat.message.data()), progress);
  append_record(out, RecordType::kBeat, beat);
}

void append_note(std::vector<uint8_t>& out, const std::string& note) {
  PeerFault carrier;
  carrier.message = note;
  append_record(out, RecordType::kNote, carrier);
}

}  // namespace

Result<std::unique_ptr<PeerMonitor>> PeerMonitor::start(const Options& options,
                                                        FaultListener listener) {
  Result<UniqueFd> listening = listen_tcp(options.address, 0);
  if (!listening) return listening.failure();
  const Result<uint16_t> port = local_port(listening->get());
  if (!port) return port.failure();
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Failure{ErrorKind::kInternal, "eventfd: out of descriptors"};
  return std::unique_ptr<PeerMonitor>(
      new PeerMonitor(options, std::move(listener), std::move(*listening), std::move(wake), *port));
}

PeerMonitor::PeerMonitor(const Options& options, FaultListener listener, UniqueFd listening,
                         UniqueFd wake, uint16_t port)
    : options_(options),
      listener_(std::move(listener)),
      port_(port),
      listening_(std::move(listening)),
      wake_(std::move(wake)),
      next_beat_(std::chrono::steady_clock::now()) {
  present_.assign(options.size, false);
  present_[options.rank] = true;
  progress_.assign(options.size, 0);
  thread_ = Thread("lh-monitor", [this] { run(); });
}

PeerMonitor::~PeerMonitor() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  wake();
  thread_.join();
}

void PeerMonitor::wake() const {
  const uint64_t one = 1;
  // Full means that the thread has not yet woken for an earlier one, which will do.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

// A rank connects to all lower ones and is connected to by all higher ones, so every pair has one
// connection. Connecting does not wait for the other side's program: its monitor listens since
// before it told its address. The thread says hello; this one waits until all have been greeted.
Result<void> PeerMonitor::connect(const std::vector<Endpoint>& endpoints, Instant deadline) {
  for (Rank rank = 0; rank < options_.rank; ++rank) {
    const auto left =
        std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
    Result<UniqueFd> fd =
        connect_tcp(endpoints[rank].address, endpoints[rank].port, std::max(left, milliseconds(1)));
    if (!fd) {
      return Failure{fd.failure().kind, str_cat("rank ", options_.rank, " cannot reach rank ", rank,
                                                ": ", fd.failure().message)};
    }
    Peer peer;
    peer.fd = std::move(*fd);
    peer.rank = rank;
    {
      MutexLock lock(mutex_);
      connected_.push_back(std::move(peer));
    }
    // Each says hello at once: until then it is a stranger to the other side.
    wake();
  }
  MutexLock lock(mutex_);
  while (std::count(present_.begin(), present_.end(), false) > 0) {
    if (fault_) return Failure{fault_->kind, fault_->message};
    if (!changed_.wait_until(mutex_, deadline)) {
      return Failure{ErrorKind::kDeadline, str_cat("rank ", options_.rank, " still waits for rank",
                                                   missing_ranks(), " to connect")};
    }
  }
  return {};
}

std::string PeerMonitor::missing_ranks() const {
  std::vector<std::string> names;
  for (Rank rank = 0; rank < options_.size; ++rank) {
    if (!present_[rank]) names.push_back(std::to_string(rank));
  }
  return str_cat(names.size() > 1 ? "s " : " ", join(names, ", "));
}

void PeerMonitor::announce(const PeerFault& fault) {
  {
    MutexLock lock(mutex_);
    announcements_.push_back(fault);
  }
  wake();
}

void PeerMonitor::say(const std::string& note) {
  {
    MutexLock lock(mutex_);
    said_.push_back(note);
  }
  wake();
}

std::optional<PeerFault> PeerMonitor::fault() const {
  MutexLock lock(mutex_);
  return fault_;
}

std::optional<PeerFault> PeerMonitor::wait_for_fault(milliseconds patience) const {
  const Instant deadline = std::chrono::steady_clock::now() + patience;
  MutexLock lock(mutex_);
  while (!fault_) {
    if (!changed_.wait_until(mutex_, deadline)) break;
  }
  return fault_;
}

Rank PeerMonitor::left() const {
  MutexLock lock(mutex_);
  return left_;
}

Rank PeerMonitor::silent() const {
  MutexLock lock(mutex_);
  return silent_;
}

std::optional<PeerMonitor::Laggard> PeerMonitor::laggard() const {
  // Asked before the lock is taken: the callback takes locks of its owner.
  const uint64_t own = options_.progress ? options_.progress() : 0;
  std::optional<Laggard> last;
  MutexLock lock(mutex_);
  for (Rank rank = 0; rank < options_.size; ++rank) {
    const uint64_t begun = progress_[static_cast<size_t>(rank)];
    if (rank == options_.rank || begun >= own || (last && begun >= last->begun)) continue;
    last = Laggard{rank, begun, own};
  }
  return last;
}

Rank PeerMonitor::suspect() const {
  MutexLock lock(mutex_);
  if (fault_) return fault_->culprit;
  return left_ >= 0 ? left_ : silent_;
}

// At the end every peer gets a goodbye, once and without waiting. One whose buffer is full does not
// get it and sees a lost rank instead. What was announced or said before is sent first, by
// take_commands().
void PeerMonitor::run() {
  while (!stopping_) poll_once();
  for (Peer& peer : peers_) {
    if (!peer.greeted) continue;
    append_record(peer.out, RecordType::kGoodbye, {});
    write_to(peer);
  }
  peers_.clear();
}

void PeerMonitor::poll_once() {
  take_commands();
  if (stopping_) return;
  Instant now = std::chrono::steady_clock::now();
  send_beats(now);

  std::vector<pollfd> polled;
  polled.push_back({wake_.get(), POLLIN, 0});
  polled.push_back({listening_.get(), POLLIN, 0});  // poll() passes over a descriptor of -1
  for (const Peer& peer : peers_) {
    const short events = peer.out.empty() ? POLLIN : POLLIN | POLLOUT;
    polled.push_back({peer.fd.get(), events, 0});
  }
  const auto left = std::chrono::duration_cast<milliseconds>(next_beat_ - now);
  poll(polled.data(), polled.size(), static_cast<int>(std::max<int64_t>(left.count() + 1, 1)));

  // Fails with EAGAIN when nobody has called wake(); nothing is lost then.
  uint64_t count;
  [[maybe_unused]] const ssize_t drained = ::read(wake_.get(), &count, sizeof(count));
  // All connections are read before a closed one counts as a lost rank. A victim says because of
  // whom it fails before it closes its connection, and both may be seen in the same round: what it
  // said names the culprit.
  std::vector<PeerFault> closed;
  for (size_t i = 0; i < peers_.size(); ++i) {
    if (polled[i + 2].revents & (POLLIN | POLLHUP | POLLERR)) read_from(peers_[i], &closed);
    if (peers_[i].fd.valid() && (polled[i + 2].revents & POLLOUT)) write_to(peers_[i]);
  }
  for (const PeerFault& fault : closed) raise(fault);
  std::erase_if(peers_, [](const Peer& peer) { return !peer.fd.valid(); });
  if (polled[1].revents & POLLIN) accept_stranger();
  notice_silence(std::chrono::steady_clock::now());
}

void PeerMonitor::take_commands() {
  std::vector<Peer> connected;
  std::vector<PeerFault> announcements;
  std::vector<std::string> notes;
  bool complete = false;
  {
    MutexLock lock(mutex_);
    connected.swap(connected_);
    announcements.swap(announcements_);
    notes.swap(said_);
    stopping_ = stop_;
    complete = std::count(present_.begin(), present_.end(), false) == 0;
  }
  for (Peer& peer : connected) {
    peer.last_heard = std::chrono::steady_clock::now();
    send_hello(peer);
    peers_.push_back(std::move(peer));
  }
  // Every rank has been greeted, so nobody else may come; strangers that are left are none of ours.
  if (complete && listening_.valid()) {
    listening_.reset();
    std::erase_if(peers_, [](const Peer& peer) { return !peer.greeted; });
  }
  send_notes(notes);
  // Sent before it is raised here: raising ends this rank's operations, and the program may end
  // with them.
  for (const PeerFault& fault : announcements) {
    for (Peer& peer : peers_) {
      if (!peer.greeted || !peer.fd.valid()) continue;
      append_record(peer.out, RecordType::kFault, fault);
      write_to(peer);
    }
    raise(fault);
  }
}

void PeerMonitor::send_notes(const std::vector<std::string>& notes) {
  if (notes.empty()) return;
  for (Peer& peer : peers_) {
    if (!peer.greeted || !peer.fd.valid()) continue;
    for (const std::string& note : notes) append_note(peer.out, note);
    write_to(peer);
  }
}

void PeerMonitor::accept_stranger() {
  Result<UniqueFd> fd = accept_tcp(listening_.get(), std::chrono::steady_clock::now());
  if (!fd) return;
  const auto strangers =
      std::count_if(peers_.begin(), peers_.end(), [](const Peer& peer) { return peer.rank < 0; });
  if (static_cast<size_t>(strangers) >= kMaxStrangers + static_cast<size_t>(options_.size)) {
    peers_.erase(
        std::find_if(peers_.begin(), peers_.end(), [](const Peer& peer) { return peer.rank < 0; }));
  }
  Peer peer;
  peer.fd = std::move(*fd);
  peer.accepted = true;
  peer.last_heard = std::chrono::steady_clock::now();
  peers_.push_back(std::move(peer));
}

void PeerMonitor::read_from(Peer& peer, std::vector<PeerFault>* closed) {
  uint8_t buffer[4096];
  bool open = true;
  while (open) {
    const ssize_t got = recv(peer.fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) break;
    peer.last_heard = std::chrono::steady_clock::now();
    peer.in.insert(peer.in.end(), buffer, buffer + got);
    open = parse(peer);
  }
  // The connection is closed, or this side closes it. A rank that said goodbye may do that, and a
  // stranger's end is of no interest.
  peer.fd.reset();
  if (peer.greeted && !peer.left) {
    closed->push_back({ErrorKind::kPeerLost, peer.rank,
                       str_cat("rank ", peer.rank, " is gone: its connection ",
                               open ? "closed" : "sent bytes that make no sense")});
  }
}

// Takes all whole records off the buffer. False when the bytes make no sense; the connection is
// closed then, because nobody knows where the next record begins. So no peer can make the buffer
// grow beyond a record and one read.
bool PeerMonitor::parse(Peer& peer) {
  if (!peer.greeted) {
    if (peer.in.size() < kHelloBytes) return true;
    if (!parse_hello(peer)) {
      log(LogLevel::kWarning, "monitor", "rank ", options_.rank,
          " dropped a stranger's connection to its monitor port: bad hello");
      return false;
    }
    peer.in.erase(peer.in.begin(), peer.in.begin() + kHelloBytes);
  }
  size_t at = 0;
  while (peer.in.size() - at >= kRecordBytes) {
    const uint8_t* record = peer.in.data() + at;
    const auto type = static_cast<RecordType>(record[0]);
    const size_t text_bytes = load<uint16_t>(record + 2);
    const Rank culprit = load<int32_t>(record + 4);
    if (record[0] < 1 || record[0] > 4 || text_bytes > kMaxTextBytes || culprit < -1 ||
        culprit >= options_.size) {
      return false;
    }
    if (peer.in.size() - at < kRecordBytes + text_bytes) break;
    if (type == RecordType::kGoodbye) {
      peer.left = true;
      MutexLock lock(mutex_);
      if (left_ < 0) left_ = peer.rank;
      changed_.notify_all();
    } else if (type == RecordType::kFault) {
      const std::string text(reinterpret_cast<const char*>(record) + kRecordBytes, text_bytes);
      raise({kind_of(record[1]), culprit, text});
    } else if (type == RecordType::kNote) {
      const std::string_view text(reinterpret_cast<const char*>(record) + kRecordBytes, text_bytes);
      if (options_.on_note && !options_.on_note(peer.rank, text)) return false;
    } else if (text_bytes == sizeof(uint64_t)) {
      MutexLock lock(mutex_);
      progress_[static_cast<size_t>(peer.rank)] = load<uint64_t>(record + kRecordBytes);
    }
    at += kRecordBytes + text_bytes;
  }
  peer.in.erase(peer.in.begin(), peer.in.begin() + static_cast<ptrdiff_t>(at));
  return true;
}

// Hello: magic u32, rank u32, generation u64, token 16 bytes. The side that connects says it first;
// the other one answers only a hello that is right, so a stranger that connects never learns the
// token.
void PeerMonitor::send_hello(Peer& peer) {
  uint8_t hello[kHelloBytes];
  store<uint32_t>(hello, kMagic);
  store<uint32_t>(hello + 4, static_cast<uint32_t>(options_.rank));
  store<uint64_t>(hello + 8, options_.generation);
  std::copy(options_.token.begin(), options_.token.end(), hello + 16);
  peer.out.insert(peer.out.end(), hello, hello + kHelloBytes);
  write_to(peer);
}

bool PeerMonitor::parse_hello(Peer& peer) {
  const uint8_t* hello = peer.in.data();
  const auto rank = static_cast<Rank>(load<uint32_t>(hello + 4));
  if (load<uint32_t>(hello) != kMagic || load<uint64_t>(hello + 8) != options_.generation ||
      !std::equal(options_.token.begin(), options_.token.end(), hello + 16) || rank < 0 ||
      rank >= options_.size) {
    return false;
  }
  // Only higher ranks connect to this one, each once.
  if (peer.accepted) {
    MutexLock lock(mutex_);
    if (rank <= options_.rank || present_[rank]) return false;
    peer.rank = rank;
  } else if (rank != peer.rank) {
    return false;
  }
  peer.greeted = true;
  if (peer.accepted) send_hello(peer);
  MutexLock lock(mutex_);
  present_[rank] = true;
  changed_.notify_all();
  return true;
}

// Sends as much as the socket takes; never waits, or one rank that does not read would keep the
// thread from all others.
void PeerMonitor::write_to(Peer& peer) {
  while (!peer.out.empty()) {
    const ssize_t put =
        send(peer.fd.get(), peer.out.data(), peer.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) return;  // the rest when poll() says so
    if (put < 0) {
      // The connection is broken. Reading finds that out too, and tells it.
      peer.out.clear();
      return;
    }
    peer.out.erase(peer.out.begin(), peer.out.begin() + put);
  }
}

void PeerMonitor::send_beats(Instant now) {
  if (now < next_beat_) return;
  next_beat_ = now + options_.beat_interval;
  for (Peer& peer : peers_) {
    // A rank that does not read gets no more beats, so they do not pile up; the one that waits for
    // it is enough when it goes on.
    if (!peer.greeted || !peer.out.empty()) continue;
    append_beat(peer.out, options_.progress ? options_.progress() : 0);
    write_to(peer);
  }
  // Told again with every beat: operations may have been started since (operation_watch.cc).
  const std::optional<PeerFault> known = fault();
  if (known && listener_) listener_(*known);
}

void PeerMonitor::raise(const PeerFault& fault) {
  {
    MutexLock lock(mutex_);
    // The first fault stands, but a later one that knows the culprit beats one that does not.
    if (fault_ && (fault_->culprit >= 0 || fault.culprit < 0)) return;
    fault_ = fault;
    changed_.notify_all();
  }
  log(LogLevel::kInfo, "monitor", "rank ", options_.rank, ", generation ", options_.generation,
      ": ", fault.message);
  if (listener_) listener_(fault);
}

// A silent rank is only remembered, for suspect() and silent(). It may be stopped or just busy, and
// nothing is ended because of it.
void PeerMonitor::notice_silence(Instant now) {
  Rank silent = -1;
  Instant longest = now - options_.silence_limit;
  for (const Peer& peer : peers_) {
    if (!peer.greeted || peer.left || peer.last_heard >= longest) continue;
    longest = peer.last_heard;
    silent = peer.rank;
  }
  MutexLock lock(mutex_);
  silent_ = silent;
}

}  // namespace longhaul
