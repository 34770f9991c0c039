// longhaul-shim: stands between the worker and one rank, so that nothing is left behind and nothing
// is lost, whoever dies. It is small, static and single-threaded on purpose: it starts in a
// millisecond and has nothing that could fail. Protocol and arguments:
// control/worker/shim_protocol.h.
//
// - It reads the rank's output and spools it into the rank's folder; it keeps the rank's state and
//   at last how it ended in the ledger there. No byte depends on the worker's life.
// - When the rank ends, when the worker says so, or when the worker is gone (its socket closes,
// also
//   by kill -9) and no other one has come in time, it kills every descendant that is left.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "apps/shim/rank_tree.h"
#include "control/worker/proc_stat.h"
#include "control/worker/rank_ledger.h"
#include "control/worker/shim_protocol.h"
#include "control/worker/spool_writer.h"

namespace longhaul {
namespace {

// More than a pipe can hold, fewer than a writer that goes on could keep us at.
constexpr int kDrainReads = 64;

int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// nullptr: it is not there, or was made by another version.
RankLedger* map_ledger() {
  const int fd = ::openat(kShimFolderFd, RankLedger::kFileName, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* page = ::mmap(nullptr, sizeof(RankLedger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (page == MAP_FAILED) return nullptr;
  auto* ledger = static_cast<RankLedger*>(page);
  const bool ours = ledger->magic == RankLedger::kMagic && ledger->version == RankLedger::kVersion;
  return ours ? ledger : nullptr;
}

// One stream of the rank's output, from the pipe to the disk.
class Output {
 public:
  Output(const char* name, RankLedger::Stream& stream, uint64_t max_bytes)
      : spool_(kShimFolderFd, name, stream, max_bytes) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return;
    read_end_ = ends[0];
    write_end_ = ends[1];
    ::fcntl(read_end_, F_SETFL, O_NONBLOCK);
  }

  int read_end() const { return read_end_; }
  int write_end() const { return write_end_; }
  // The rank has it now: its end shows when nobody holds it any more.
  void close_write_end() { ::close(write_end_); }

  // False when nothing is there now.
  bool read_once() {
    static char buffer[64 << 10];
    if (read_end_ < 0) return false;
    const ssize_t size = ::read(read_end_, buffer, sizeof(buffer));
    if (size > 0) {
      spool_.append(buffer, static_cast<size_t>(size));
      return true;
    }
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    ::close(read_end_);
    read_end_ = -1;  // poll() leaves it out
    return false;
  }

 private:
  SpoolWriter spool_;
  int read_end_ = -1;
  int write_end_ = -1;
};

// The worker that is connected, and the socket through which the next one comes.
class WorkerLine {
 public:
  explicit WorkerLine(int64_t adopt_timeout_ms) : adopt_timeout_ms_(adopt_timeout_ms) {
    listener_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // A name of any length would do this way: a socket's path is bounded.
    (void)::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
                     kShimFolderFd, kShimSocketName);
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(listener_, 8) != 0) {
      // A folder that takes no socket: nobody can come, so nobody is waited for in poll().
      ::close(listener_);
      listener_ = -1;
    }
  }

  int connection() const { return connection_; }
  int listener() const { return listener_; }

  // nullopt: nothing was said (the worker may be gone now).
  std::optional<ShimCommand> hear() {
    char command = 0;
    const ssize_t size = ::recv(connection_, &command, 1, MSG_DONTWAIT);
    if (size > 0) return static_cast<ShimCommand>(command);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
    ::close(connection_);
    connection_ = -1;
    alone_since_ms_ = now_ms();
    return std::nullopt;
  }

  void accept() {
    const int next = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (next < 0) return;
    if (connection_ >= 0) ::close(connection_);
    connection_ = next;
    look();
  }

  // One that is not taken is not missed: the socket is full of others.
  void look() const {
    if (connection_ < 0) return;
    (void)!::send(connection_, &kShimLook, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  // How long poll() may wait for another worker; -1: as long as it likes.
  int patience_ms() const {
    if (connection_ >= 0) return -1;
    const int64_t left_ms = alone_since_ms_ + adopt_timeout_ms_ - now_ms();
    return static_cast<int>(std::clamp<int64_t>(left_ms, 0, 60'000));
  }
  bool abandoned() const { return patience_ms() == 0; }

 private:
  const int64_t adopt_timeout_ms_;
  int connection_ = kShimControlFd;
  int listener_ = -1;
  int64_t alone_since_ms_ = 0;
};

class Shim {
 public:
  Shim(RankLedger& ledger, int64_t adopt_timeout_ms, uint64_t spool_bytes)
      : ledger_(ledger),
        out_("stdout", ledger.streams[0], spool_bytes),
        err_("stderr", ledger.streams[1], spool_bytes),
        worker_(adopt_timeout_ms) {}

  void run(const char* program, const char* directory, char** argv) {
    introduce();
    const int signals = block_signals();
    const RankTree::StartError error =
        tree_.start(program, directory, argv, out_.write_end(), err_.write_end());
    out_.close_write_end();
    err_.close_write_end();
    ledger_.rank_pid = tree_.rank();
    if (error.step != ShimStep::kNone) {
      ledger_.failed_step = error.step;
      ledger_.error_number = error.error_number;
      tree_.kill_everything();
      return enter(RankPhase::kNotStarted);
    }
    enter(RankPhase::kStarted);
    watch(signals);
    tree_.kill_everything();
    // Whoever could write is gone: all that they wrote is in the pipes.
    drain(out_);
    drain(err_);
    ledger_.wait_status = tree_.wait_status();
    enter(RankPhase::kEnded);
  }

 private:
  void enter(RankPhase phase) {
    ledger_.phase.store(phase, std::memory_order_release);
    worker_.look();
  }

  void introduce() {
    ledger_.shim_pid = ::getpid();
    if (const std::optional<ProcStat> self = read_proc_stat(::getpid())) {
      ledger_.shim_start_time = self->start_time;
    }
    enter(RankPhase::kShim);
  }

  static int block_signals() {
    // A job's limit on the size of files is not ours to die of.
    (void)::signal(SIGXFSZ, SIG_IGN);
    sigset_t handled;
    ::sigemptyset(&handled);
    for (const int signal_number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) {
      ::sigaddset(&handled, signal_number);
    }
    ::sigprocmask(SIG_SETMASK, &handled, nullptr);
    return ::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
  }

  void watch(int signals) {
    tree_.reap();
    while (!tree_.rank_ended() && !worker_.abandoned()) {
      pollfd fds[] = {{signals, POLLIN, 0},
                      {worker_.connection(), POLLIN, 0},
                      {worker_.listener(), POLLIN, 0},
                      {out_.read_end(), POLLIN, 0},
                      {err_.read_end(), POLLIN, 0}};
      if (::poll(fds, std::size(fds), worker_.patience_ms()) < 0) continue;
      if (fds[0].revents != 0) handle_signal(signals);
      if (fds[1].revents != 0) handle_command();
      if (fds[2].revents != 0) worker_.accept();
      bool news = fds[3].revents != 0 && out_.read_once();
      news |= fds[4].revents != 0 && err_.read_once();
      if (news) worker_.look();
    }
    if (!tree_.rank_ended()) note_command();
  }

  void handle_signal(int signals) {
    signalfd_siginfo info{};
    if (::read(signals, &info, sizeof(info)) != sizeof(info)) return;
    if (info.ssi_signo == SIGCHLD) {
      tree_.reap();
    } else {
      tree_.signal(static_cast<int>(info.ssi_signo));
    }
  }

  void handle_command() {
    const std::optional<ShimCommand> command = worker_.hear();
    if (!command) return;
    // A rank that had ended by itself before the command came was not stopped by it.
    tree_.reap();
    if (tree_.rank_ended()) return;
    note_command();
    if (*command == ShimCommand::kTerminate) tree_.signal(SIGTERM);
    if (*command == ShimCommand::kKill) tree_.kill_everything();
  }

  void note_command() {
    if (ledger_.stopped_by_command) return;
    ledger_.stopped_by_command = true;
    const std::optional<ProcStat> stat = read_proc_stat(tree_.rank());
    ledger_.process_state = stat ? stat->state : '\0';
  }

  static void drain(Output& output) {
    for (int i = 0; i < kDrainReads && output.read_once(); ++i) {
    }
  }

  RankLedger& ledger_;
  RankTree tree_;
  Output out_;
  Output err_;
  WorkerLine worker_;
};

int run(int argc, char** argv) {
  if (argc < 6) {
    (void)::fprintf(stderr, "longhaul-shim is started by longhaul-worker, one per rank.\n");
    return 64;
  }
  ::prctl(PR_SET_NAME, "longhaul-shim");
  // Out of the worker's session: Ctrl-C at the worker's terminal is the worker's to pass on.
  ::setsid();
  for (const int fd : {kShimControlFd, kShimFolderFd}) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::close_range(kShimFolderFd + 1, ~0U, 0);
  RankLedger* ledger = map_ledger();
  if (ledger == nullptr) return 70;
  Shim shim(*ledger, ::strtoll(argv[1], nullptr, 10), ::strtoull(argv[2], nullptr, 10));
  shim.run(argv[3], argv[4], argv + 5);
  return 0;
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  return longhaul::run(argc, argv);
}
