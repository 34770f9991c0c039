#include "links/links.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "longhaul/base/strings.h"
#include "wire/socket.h"

namespace longhaul {
namespace {

// Connections that have not said hello, beside one of each rank. Beyond so many the oldest is
// dropped, so that nobody can use up this process's descriptors.
constexpr size_t kMaxStrangers = 64;
// So much of one link is moved before the others are looked at.
constexpr size_t kBytesATurn = size_t{4} << 20;
// What the kernel may hold of a link that is not on the wire yet. Urgent frames wait behind it:
// with the kernel's own buffers, of megabytes, they would wait for seconds on a slow line.
constexpr int kNotSentBytes = 256 << 10;
// How long a rank that leaves waits for the others to have read what it has sent. Closing sooner
// would reset the connection, and may take bytes away that are still on their way.
constexpr milliseconds kFarewell{1'000};
// At once while dialling: each is a thread that waits.
constexpr int kDials = 16;

std::string name_of(Rank rank) {
  return str_cat("rank ", rank);
}

bool is_for_later(int error) {
  return error == EAGAIN || error == EINTR;
}

std::array<uint8_t, kLinkHelloBytes> hello_of(const Links::Options& options) {
  std::array<uint8_t, kLinkHelloBytes> hello{};
  store(hello.data(), static_cast<uint32_t>(options.rank));
  store(hello.data() + 4, static_cast<uint32_t>(options.size));
  store(hello.data() + 8, options.generation);
  std::copy(options.token.begin(), options.token.end(), hello.begin() + 16);
  return hello;
}

// False: the kernel has no room for it, and nobody would hear of the descriptor.
bool watch_on(int epoll, int fd, int operation, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  return ::epoll_ctl(epoll, operation, fd, &event) == 0;
}

// Where the kernel allows it: loss costs it least of all that Linux has (docs/links.md).
void set_up(int fd) {
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", 3);
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kNotSentBytes, sizeof(kNotSentBytes));
}

}  // namespace

Result<std::unique_ptr<Links>> Links::start(const Options& options) {
  Result<UniqueFd> listening = listen_tcp(options.address, 0);
  if (!listening) return listening.failure();
  const Result<uint16_t> port = local_port(listening->get());
  if (!port) return port.failure();
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!wake.valid() || !epoll.valid() ||
      !watch_on(epoll.get(), wake.get(), EPOLL_CTL_ADD, EPOLLIN) ||
      !watch_on(epoll.get(), listening->get(), EPOLL_CTL_ADD, EPOLLIN)) {
    return Failure{ErrorKind::kInternal, str_cat("links: ", ::strerror(errno))};
  }
  return std::unique_ptr<Links>(
      new Links(options, std::move(*listening), std::move(wake), std::move(epoll), *port));
}

Links::Links(const Options& options, UniqueFd listening, UniqueFd wake, UniqueFd epoll,
             uint16_t port)
    : options_(options),
      port_(port),
      listening_(std::move(listening)),
      wake_(std::move(wake)),
      epoll_(std::move(epoll)),
      peers_(static_cast<size_t>(options.size)) {
  present_.assign(peers_.size(), false);
  present_[static_cast<size_t>(options.rank)] = true;
  for (Rank rank = 0; rank < options.size; ++rank) {
    Inbox::Listener listener;
    listener.answer = [this, rank](const LinkFrame& frame) { peer(rank).outbox->urgent(frame); };
    listener.about_ours = [this, rank](const LinkFrame& frame) {
      if (frame.kind == FrameKind::kReady) {
        peer(rank).outbox->ready(frame.operation);
      } else {
        peer(rank).outbox->credit(frame.offset);
      }
    };
    listener.goodbye = [this, rank] { peer(rank).goodbye = true; };
    peer(rank).outbox = std::make_unique<Outbox>(options.window);
    peer(rank).inbox = std::make_unique<Inbox>(name_of(rank), options.window, std::move(listener));
  }
  thread_ = Thread("lh-links", [this] { run(); });
}

Links::~Links() {
  close();
}

void Links::close() {
  {
    MutexLock lock(mutex_);
    given_.stop = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

void Links::wake() const {
  const uint64_t one = 1;
  // Full means that the thread has not yet woken for an earlier one, which will do.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof(one));
}

void Links::send(Rank to, uint64_t operation, ByteSpan bytes, Sent sent) {
  const bool is_peer = to >= 0 && to < options_.size && to != options_.rank;
  LONGHAUL_CHECK(is_peer);
  bytes_sent_ += bytes.size();
  LinkFault closed;
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      given_.sends.push_back({to, operation, bytes, std::move(sent)});
      if (!std::exchange(woken_, true)) wake();
      return;
    }
    closed = *closed_;
  }
  sent(&closed);
}

void Links::receive(Rank from, uint64_t operation, MutableByteSpan into, bool exactly,
                    Received received) {
  const bool is_peer = from >= 0 && from < options_.size && from != options_.rank;
  LONGHAUL_CHECK(is_peer);
  LinkFault closed;
  {
    MutexLock lock(mutex_);
    if (!closed_) {
      given_.receives.push_back({from, operation, into, exactly, std::move(received)});
      if (!std::exchange(woken_, true)) wake();
      return;
    }
    closed = *closed_;
  }
  received(&closed, 0);
}

void Links::abort(const LinkFault& why) {
  MutexLock lock(mutex_);
  if (!given_.abort) given_.abort = why;
  if (!std::exchange(woken_, true)) wake();
}

void Links::for_each_connection(const std::function<void(int fd)>& visit) const {
  MutexLock lock(descriptors_mutex_);
  for (const Peer& one : peers_) {
    if (one.fd.valid()) visit(one.fd.get());
  }
}

// --- Meeting -----------------------------------------------------------------------------------

// A rank dials all lower ones and is dialled by all higher ones, so every pair has one connection.
// Dialling does not wait for the other side's program: it listens since before it told its address.
Result<void> Links::connect(const std::vector<Endpoint>& endpoints, Instant deadline) {
  std::atomic<Rank> next{0};
  const auto dial = [&] {
    for (Rank rank = next++; rank < options_.rank; rank = next++) {
      const Endpoint& to = endpoints[static_cast<size_t>(rank)];
      const auto left =
          std::chrono::duration_cast<milliseconds>(deadline - std::chrono::steady_clock::now());
      Result<UniqueFd> fd = connect_tcp(to.address, to.port, std::max(left, milliseconds(1)));
      MutexLock lock(mutex_);
      if (fd) {
        given_.dialled.emplace_back(rank, std::move(*fd));
        if (!std::exchange(woken_, true)) wake();
      } else if (!why_not_) {
        why_not_ = LinkFault{fd.failure().kind, rank,
                             str_cat(name_of(options_.rank), " cannot reach ", name_of(rank), ": ",
                                     fd.failure().message)};
        changed_.notify_all();
      }
    }
  };
  std::vector<Thread> dials;
  dials.reserve(kDials);
  const int threads = std::min<int>(options_.rank, kDials);
  for (int i = 0; i < threads; ++i) dials.emplace_back("lh-dial", dial);
  dials.clear();
  MutexLock lock(mutex_);
  while (std::count(present_.begin(), present_.end(), false) > 0) {
    if (why_not_) return Failure{why_not_->kind, why_not_->message};
    if (!changed_.wait_until(mutex_, deadline)) {
      return Failure{ErrorKind::kDeadline, str_cat(name_of(options_.rank), " still waits for rank",
                                                   missing_ranks(), " to connect")};
    }
  }
  return {};
}

std::string Links::missing_ranks() const {
  std::vector<std::string> names;
  for (size_t rank = 0; rank < present_.size(); ++rank) {
    if (!present_[rank]) names.push_back(std::to_string(rank));
  }
  return str_cat(names.size() > 1 ? "s " : " ", join(names, ", "));
}

void Links::accept_strangers() {
  while (listening_.valid()) {
    Result<UniqueFd> fd = accept_tcp(listening_.get(), std::chrono::steady_clock::now());
    if (!fd) return;
    if (strangers_.size() >= kMaxStrangers + peers_.size()) {
      const auto oldest = std::find_if(strangers_.begin(), strangers_.end(),
                                       [](const Stranger& one) { return one.dialled < 0; });
      if (oldest != strangers_.end()) strangers_.erase(oldest);
    }
    // Closed, where it cannot be watched: the side that dials hears that it was sent away.
    if (watch(fd->get())) strangers_.push_back({std::move(*fd), {}, -1});
  }
}

// The side that dials says hello first; the other one answers only a hello that is right, so a
// stranger that connects never learns the secret.
void Links::say_hello(int fd) {
  const auto body = hello_of(options_);
  std::array<uint8_t, kLinkHeaderBytes + kLinkHelloBytes> frame{};
  write_link_header({FrameKind::kHello, 0, 0, 0, 0}, body, frame.data());
  std::copy(body.begin(), body.end(), frame.begin() + kLinkHeaderBytes);
  // The first bytes of a connection: they fit its buffer. If it is broken, reading tells.
  (void)!::send(fd, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Links::hear_stranger(int fd) {
  const auto found = std::find_if(strangers_.begin(), strangers_.end(),
                                  [fd](const Stranger& one) { return one.fd.get() == fd; });
  if (found == strangers_.end()) return;
  // Not a byte more than the hello: what comes behind it is the link's.
  constexpr size_t kWhole = kLinkHeaderBytes + kLinkHelloBytes;
  std::array<uint8_t, kWhole> bytes{};
  const ssize_t got = ::recv(fd, bytes.data(), kWhole - found->hello.size(), MSG_DONTWAIT);
  if (got < 0 && is_for_later(errno)) return;
  Stranger stranger = std::move(*found);
  strangers_.erase(found);
  if (got > 0) stranger.hello.insert(stranger.hello.end(), bytes.begin(), bytes.begin() + got);
  if (got > 0 && stranger.hello.size() < kWhole) {
    strangers_.push_back(std::move(stranger));
    return;
  }
  const std::optional<Rank> rank = got > 0 ? rank_of(stranger) : std::nullopt;
  if (rank) return welcome(std::move(stranger), *rank);
  if (got > 0) {
    log(LogLevel::kWarning, "links", name_of(options_.rank),
        " dropped a stranger's connection to its port: bad hello");
  }
  if (stranger.dialled < 0) return;
  MutexLock lock(mutex_);
  if (!why_not_) {
    why_not_ = LinkFault{ErrorKind::kUnavailable, stranger.dialled,
                         str_cat(name_of(stranger.dialled), " sent ", name_of(options_.rank),
                                 " away: it is of another world, or has failed")};
  }
  changed_.notify_all();
}

std::optional<Rank> Links::rank_of(const Stranger& stranger) const {
  const Result<LinkFrame> frame =
      read_link_header(ByteSpan(stranger.hello).first(kLinkHeaderBytes));
  if (!frame || frame->kind != FrameKind::kHello) return std::nullopt;
  const ByteSpan body = ByteSpan(stranger.hello).subspan(kLinkHeaderBytes);
  if (frame->body_checksum != link_checksum(body)) return std::nullopt;
  auto expected = hello_of(options_);
  const auto rank = static_cast<Rank>(load<uint32_t>(body.data()));
  store(expected.data(), static_cast<uint32_t>(rank));
  if (!std::equal(body.begin(), body.end(), expected.begin())) return std::nullopt;
  if (stranger.dialled >= 0) return rank == stranger.dialled ? std::optional(rank) : std::nullopt;
  // Only higher ranks dial this one, each once.
  const bool may = rank > options_.rank && rank < options_.size &&
                   peers_[static_cast<size_t>(rank)].state == State::kAbsent;
  return may ? std::optional(rank) : std::nullopt;
}

void Links::welcome(Stranger stranger, Rank rank) {
  if (stranger.dialled < 0) say_hello(stranger.fd.get());
  Peer& one = peer(rank);
  set_up(stranger.fd.get());
  {
    MutexLock lock(descriptors_mutex_);
    one.fd = std::move(stranger.fd);
  }
  one.state = State::kUp;
  write_to(rank);
  MutexLock lock(mutex_);
  present_[static_cast<size_t>(rank)] = true;
  // Every rank has been greeted, so nobody else may come; strangers that are left are none of ours.
  if (std::count(present_.begin(), present_.end(), false) == 0) {
    listening_.reset();
    strangers_.clear();
  }
  changed_.notify_all();
}

// --- The thread --------------------------------------------------------------------------------

bool Links::watch(int fd) {
  return watch_on(epoll_.get(), fd, EPOLL_CTL_ADD, EPOLLIN);
}

void Links::run() {
  while (!stopping_) turn(-1);
  if (!aborted_) say_goodbye();
  if (!aborted_) {
    aborted_ = LinkFault{ErrorKind::kPeerLost, options_.rank,
                         str_cat(name_of(options_.rank), " has left this world")};
  }
  fail_all(*aborted_);
  end();
}

// What was given meanwhile ends, too, and from then on nothing is taken.
void Links::end() {
  while (true) {
    take_what_was_given();
    MutexLock lock(mutex_);
    if (!given_.sends.empty() || !given_.receives.empty()) continue;
    closed_ = aborted_;
    return;
  }
}

void Links::turn(int patience_ms) {
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), patience_ms);
  for (int i = 0; i < count; ++i) {
    const int fd = events[static_cast<size_t>(i)].data.fd;
    if (fd == wake_.get()) {
      uint64_t ignored = 0;
      (void)!::read(wake_.get(), &ignored, sizeof(ignored));
      continue;
    }
    if (listening_.valid() && fd == listening_.get()) {
      accept_strangers();
      continue;
    }
    const auto found = std::find_if(peers_.begin(), peers_.end(), [fd](const Peer& one) {
      return one.fd.valid() && one.fd.get() == fd;
    });
    if (found == peers_.end()) {
      hear_stranger(fd);
      continue;
    }
    const auto rank = static_cast<Rank>(found - peers_.begin());
    const uint32_t what = events[static_cast<size_t>(i)].events;
    if ((what & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0 && !read_from(rank)) continue;
    write_to(rank);
  }
  take_what_was_given();
}

void Links::take_what_was_given() {
  while (true) {
    Given given;
    {
      MutexLock lock(mutex_);
      given = std::exchange(given_, {});
      given_.stop = given.stop;
      woken_ = false;
    }
    if (given.abort && !aborted_) {
      aborted_ = given.abort;
      fail_all(*aborted_);
    }
    for (auto& [rank, fd] : given.dialled) {
      if (!watch(fd.get())) {
        MutexLock lock(mutex_);
        why_not_ = LinkFault{ErrorKind::kInternal, -1,
                             str_cat("links: cannot watch a connection: ", ::strerror(errno))};
        changed_.notify_all();
        continue;
      }
      say_hello(fd.get());
      strangers_.push_back({std::move(fd), {}, rank});
    }
    std::vector<bool> touched(peers_.size());
    for (Receive& receive : given.receives) {
      Peer& from = peer(receive.from);
      if (aborted_) {
        receive.received(&*aborted_, 0);
        continue;
      }
      from.inbox->receive(receive.operation, receive.into, receive.exactly,
                          std::move(receive.received));
      touched[static_cast<size_t>(receive.from)] = true;
    }
    for (Send& send : given.sends) {
      Peer& to = peer(send.to);
      if (to.fault || aborted_) {
        send.sent(aborted_ ? &*aborted_ : &*to.fault);
        continue;
      }
      to.outbox->message(send.operation, send.bytes, std::move(send.sent));
      touched[static_cast<size_t>(send.to)] = true;
    }
    for (size_t rank = 0; rank < touched.size(); ++rank) {
      if (touched[rank]) write_to(static_cast<Rank>(rank));
    }
    stopping_ = given.stop;
    // Callbacks may have given more.
    MutexLock lock(mutex_);
    if (given_.sends.empty() && given_.receives.empty() && given_.dialled.empty() &&
        !given_.abort) {
      return;
    }
  }
}

// False: the link is gone.
bool Links::read_from(Rank rank) {
  Peer& one = peer(rank);
  for (size_t moved = 0; moved < kBytesATurn;) {
    const auto room = one.inbox->room();
    iovec parts[2] = {{room[0].data(), room[0].size()}, {room[1].data(), room[1].size()}};
    const ssize_t got = ::readv(one.fd.get(), parts, room[1].empty() ? 1 : 2);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0) {
      // The others close when they hear our goodbye.
      const Rank gone = stopping_ ? options_.rank : rank;
      const bool in_order = stopping_ || one.goodbye;
      lose(rank, {ErrorKind::kPeerLost, gone,
                  str_cat(name_of(gone),
                          in_order ? " has left this world" : " is gone: its connection closed")});
      return false;
    }
    moved += static_cast<size_t>(got);
    if (const Result<void> taken = one.inbox->take(static_cast<size_t>(got)); !taken) {
      lose(rank, {taken.failure().kind, rank, taken.failure().message});
      return false;
    }
  }
  return true;
}

void Links::write_to(Rank rank) {
  Peer& one = peer(rank);
  if (one.state != State::kUp) return;
  bool full = false;
  for (size_t moved = 0; moved < kBytesATurn;) {
    const auto bytes = one.outbox->next();
    if (bytes[0].empty() && bytes[1].empty()) break;
    iovec parts[2] = {{const_cast<uint8_t*>(bytes[0].data()), bytes[0].size()},
                      {const_cast<uint8_t*>(bytes[1].data()), bytes[1].size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = bytes[1].empty() ? 1 : 2;
    const ssize_t put = ::sendmsg(one.fd.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0 && errno == EINTR) continue;
    // A broken connection is found by reading, which may find more: the reason that it was sent.
    full = true;
    if (put < 0) break;
    moved += static_cast<size_t>(put);
    one.outbox->taken(static_cast<size_t>(put));
    full = moved >= kBytesATurn;
  }
  if (full != one.waits_to_write) {
    one.waits_to_write = full;
    // Changing what is watched already takes no room, so it does not fail.
    (void)watch_on(epoll_.get(), one.fd.get(), EPOLL_CTL_MOD, full ? EPOLLIN | EPOLLOUT : EPOLLIN);
  }
}

void Links::lose(Rank rank, const LinkFault& fault) {
  Peer& one = peer(rank);
  one.state = State::kLost;
  one.fault = fault;
  {
    MutexLock lock(descriptors_mutex_);
    one.fd.reset();
  }
  one.outbox->fail(fault);
  one.inbox->fail(fault);
}

void Links::fail_all(const LinkFault& why) {
  listening_.reset();
  strangers_.clear();
  for (Rank rank = 0; rank < options_.size; ++rank) {
    if (rank == options_.rank || peer(rank).fault) continue;
    lose(rank, why);
  }
  MutexLock lock(mutex_);
  if (!why_not_) why_not_ = why;
  changed_.notify_all();
}

// Sends what is under way and a goodbye, then reads until the others have closed, too.
void Links::say_goodbye() {
  const Instant limit = std::chrono::steady_clock::now() + kFarewell;
  std::vector<bool> said(peers_.size());
  std::vector<bool> shut(peers_.size());
  while (std::chrono::steady_clock::now() < limit) {
    bool any = false;
    for (Rank rank = 0; rank < options_.size; ++rank) {
      Peer& one = peer(rank);
      if (one.state != State::kUp) continue;
      any = true;
      const auto at = static_cast<size_t>(rank);
      if (one.outbox->empty() && !said[at]) {
        said[at] = true;
        one.outbox->urgent({FrameKind::kGoodbye, 0, 0, 0, 0});
        write_to(rank);
      }
      if (one.outbox->empty() && said[at] && !shut[at]) {
        shut[at] = true;
        ::shutdown(one.fd.get(), SHUT_WR);
      }
    }
    if (!any) return;
    turn(10);
  }
}

}  // namespace longhaul
