// longhaul-shim: stands between the worker and one rank, so that nothing is left behind and nothing
// is lost, whoever dies. It is small, static and single-threaded on purpose: it starts in a
// millisecond and has nothing that could fail. Protocol and arguments:
// control/worker/process/shim_protocol.h.
//
// - It reads the rank's output and spools it into the rank's folder; it keeps the rank's state and
//   at last how it ended in the ledger there. No byte depends on the worker's life.
// - When the rank has ended and what it had started has had its time (tree_end.h), when the worker
//   says so, or when the worker is gone (its socket closes, also by kill -9) and no other one has
//   come in time, it kills every descendant that is left, and names it.

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
#include <string>
#include <vector>

#include "apps/shim/input.h"
#include "apps/shim/output.h"
#include "apps/shim/process_tree.h"
#include "apps/shim/tree_end.h"
#include "control/worker/process/proc_stat.h"
#include "control/worker/process/process_ledger.h"
#include "control/worker/process/shim_protocol.h"

namespace longhaul {
namespace {

// In a remark; there may be thousands of processes.
constexpr size_t kNamed = 5;

int64_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

// nullptr: it is not there, or was made by another version.
ProcessLedger* map_ledger() {
  const int fd = ::openat(kShimFolderFd, ProcessLedger::kFileName, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* page = ::mmap(nullptr, sizeof(ProcessLedger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (page == MAP_FAILED) return nullptr;
  auto* ledger = static_cast<ProcessLedger*>(page);
  const bool ours =
      ledger->magic == ProcessLedger::kMagic && ledger->version == ProcessLedger::kVersion;
  return ours ? ledger : nullptr;
}

// The worker that is connected, and the socket through which the next one comes. The worker that
// started this shim is connected from the beginning (kShimControlFd). When its end closes, as it
// does by kill -9 too, the shim is alone, and waits for adopt_timeout for another one.
class WorkerLine {
 public:
  explicit WorkerLine(int64_t adopt_timeout_ms) : adopt_timeout_ms_(adopt_timeout_ms) {
    listener_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // By way of the folder's descriptor, because the path of a socket is limited to 107 bytes and
    // the folder's own may be longer.
    (void)::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
                     kShimFolderFd, kShimSocketName);
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
        ::listen(listener_, 8) != 0) {
      // The folder takes no socket, so no other worker can come. poll() passes over a descriptor of
      // -1.
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
    // The newest worker is the one that counts: an older connection is of one that has died, which
    // has not been noticed yet.
    if (connection_ >= 0) ::close(connection_);
    connection_ = next;
    look();
  }

  // A packet that does not fit is not missed: the socket is full of others that say the same. Never
  // waits, for a worker that is stopped must not hold up the rank's output.
  void look() const {
    if (connection_ < 0) return;
    (void)!::send(connection_, &kShimLook, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  // How long poll() may wait for another worker; -1: as long as it likes.
  int patience_ms() const {
    if (connection_ >= 0) return -1;
    const int64_t left_ms = alone_since_ms_ + adopt_timeout_ms_ - now_ms();
    // poll() takes an int; a longer wait is made of several.
    return static_cast<int>(std::clamp<int64_t>(left_ms, 0, 60'000));
  }
  bool abandoned() const { return patience_ms() == 0; }

 private:
  const int64_t adopt_timeout_ms_;
  int connection_ = kShimControlFd;
  int listener_ = -1;
  int64_t alone_since_ms_ = 0;
};

// "sleep 1000 (pid 12), tee log (pid 13) and 3 more"
std::string name_all(const std::vector<ProcessTree::Member>& members) {
  std::string text;
  for (size_t i = 0; i < members.size() && i < kNamed; ++i) {
    text +=
        (i == 0 ? "" : ", ") + members[i].name + " (pid " + std::to_string(members[i].pid) + ")";
  }
  if (members.size() > kNamed) text += " and " + std::to_string(members.size() - kNamed) + " more";
  return text;
}

// "5 s", "1.5 s"
std::string seconds(int64_t ms) {
  std::string fraction = std::to_string(1000 + ms % 1000).substr(1);
  fraction.erase(fraction.find_last_not_of('0') + 1);
  return std::to_string(ms / 1000) + (fraction.empty() ? "" : "." + fraction) + " s";
}

// One thread, which waits in one poll() for signals, the worker, the rank's output and room for its
// input. Nothing that it calls waits for the worker.
class Shim {
 public:
  Shim(ProcessLedger& ledger, int64_t adopt_timeout_ms, uint64_t spool_bytes)
      : ledger_(ledger),
        tree_end_(ledger.orders.linger_ms, ledger.orders.grace_ms),
        out_(kShimFolderFd, "stdout", ledger.streams[0], spool_bytes, ledger.orders.terminal),
        err_(kShimFolderFd, "stderr", ledger.streams[1], spool_bytes, ledger.orders.terminal),
        in_(kShimFolderFd, ledger.input, ledger.orders.input),
        worker_(adopt_timeout_ms) {}

  void run(ProcessTree::Program program) {
    // Before the rank can exist: whoever finds this phase in the ledger knows the shim, and can
    // have it killed.
    introduce();
    const int signals = block_signals();
    program.in = in_.read_end();
    program.out = out_.write_end();
    program.err = err_.write_end();
    program.descriptor_limit = ledger_.orders.descriptor_limit;
    const ProcessTree::StartError error = start(program);
    // Only the rank holds these ends now, so the pipes show when it and all that it started are
    // gone.
    out_.close_write_end();
    err_.close_write_end();
    in_.close_read_end();
    // A shim that is killed before this is in the ledger leaves a rank that dies with it, and maybe
    // descendants of that, which the worker finds by the rank's token in their environment.
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
    // The tree is gone, so all that it wrote is in the pipes. It is spooled before the phase says
    // that the rank has ended: a worker that reads the phase finds all output.
    out_.drain();
    err_.drain();
    for (const std::string& remark : remarks_) err_.add_remark(remark);
    ledger_.wait_status = tree_.wait_status();
    enter(RankPhase::kEnded);
  }

 private:
  // A rank without its output, or its input, is not started.
  ProcessTree::StartError start(const ProcessTree::Program& program) {
    if (program.out < 0 || program.err < 0 || in_.broken()) return {ShimStep::kFork, EMFILE};
    return tree_.start(program);
  }

  void enter(RankPhase phase) {
    // Last, and with release: whoever reads the phase may rely on the fields that it promises.
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
    // A job's limit on the size of files (RLIMIT_FSIZE) must not end the shim; the write fails
    // instead.
    (void)::signal(SIGXFSZ, SIG_IGN);
    (void)::signal(SIGPIPE, SIG_IGN);  // of a rank that does not read its input
    sigset_t handled;
    ::sigemptyset(&handled);
    for (const int signal_number : {SIGCHLD, SIGTERM, SIGINT, SIGHUP}) {
      ::sigaddset(&handled, signal_number);
    }
    ::sigprocmask(SIG_SETMASK, &handled, nullptr);
    return ::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
  }

  // Until the whole tree has ended, or is to be killed.
  void watch(int signals) {
    reap();
    // The signals are blocked, and a child that ends between reap() and poll() leaves its SIGCHLD
    // in the descriptor: nothing is missed.
    while (tree_lives_ && !killed_ && !worker_.abandoned()) {
      pollfd fds[] = {{signals, POLLIN, 0},
                      {worker_.connection(), POLLIN, 0},
                      {worker_.listener(), POLLIN, 0},
                      {out_.read_end(), POLLIN, 0},
                      {err_.read_end(), POLLIN, 0},
                      {in_.write_end(), in_.poll_events(), 0}};
      if (::poll(fds, std::size(fds), patience_ms()) < 0) continue;
      if (fds[0].revents != 0) handle_signal(signals);
      if (fds[1].revents != 0) handle_command();
      if (fds[2].revents != 0) worker_.accept();
      bool news = fds[3].revents != 0 && out_.read_once();
      news |= fds[4].revents != 0 && err_.read_once();
      news |= fds[5].revents != 0 && in_.move();
      if (news) worker_.look();
      take_step();
    }
    if (!tree_.rank_ended()) note_command();
  }

  int patience_ms() const {
    const int worker_ms = worker_.patience_ms();
    const auto tree_ms = static_cast<int>(std::min<int64_t>(tree_end_.wait_ms(now_ms()), 60'000));
    if (worker_ms < 0 || tree_ms < 0) return std::max(worker_ms, tree_ms);
    return std::min(worker_ms, tree_ms);
  }

  void reap() {
    const bool had_ended = tree_.rank_ended();
    tree_lives_ = tree_.reap();
    if (had_ended || !tree_.rank_ended()) return;
    // From here on the exit code is known, even if the shim is killed while it waits for the rest
    // of the tree.
    ledger_.wait_status = tree_.wait_status();
    if (!tree_lives_) return;
    tree_end_.first_process_ended(tree_.wait_status() != 0, now_ms());
    enter(RankPhase::kLingering);
    if (tree_end_.told()) tell_those_elsewhere();
  }

  // Only to processes outside the rank's group. The group has had its SIGTERM, and to many programs
  // a second one means "at once".
  void tell_those_elsewhere() const {
    std::vector<ProcessTree::Member> rest = tree_.members();
    std::erase_if(rest, [](const ProcessTree::Member& member) { return member.in_group; });
    ProcessTree::terminate(rest);
  }

  void take_step() {
    switch (tree_end_.take(now_ms())) {
      case TreeEnd::Step::kNothing:
        return;
      case TreeEnd::Step::kTerminate: {
        const std::vector<ProcessTree::Member> rest = tree_.members();
        remark("still running " + seconds(tree_end_.lingered_ms()) +
                   " after the program had ended, so ended too: ",
               rest);
        return ProcessTree::terminate(rest);
      }
      case TreeEnd::Step::kKill:
        return kill();
    }
  }

  void kill() {
    killed_ = true;
    if (tree_end_.told()) {
      remark("had not ended when the grace after SIGTERM was over, so killed: ", tree_.members());
    } else if (tree_.rank_ended()) {
      remark("had not ended " + seconds(tree_end_.grace_ms()) + " after SIGTERM, so killed: ",
             tree_.members());
    }
  }

  void remark(const std::string& what, const std::vector<ProcessTree::Member>& members) {
    if (members.empty()) return;
    remarks_.push_back("[longhaul: " + what + name_all(members) + "]");
    std::string all;
    for (const std::string& line : remarks_) all += line;
    // For people, so what does not fit is cut. The field was zero, so it stays terminated.
    const size_t size = std::min(all.size(), sizeof(ledger_.ended_too) - 1);
    ::memcpy(ledger_.ended_too, all.data(), size);
  }

  void handle_signal(int signals) {
    signalfd_siginfo info{};
    if (::read(signals, &info, sizeof(info)) != sizeof(info)) return;
    if (info.ssi_signo == SIGCHLD) {
      reap();
    } else {
      tree_.signal(static_cast<int>(info.ssi_signo));
    }
  }

  void handle_command() {
    const std::optional<ShimCommand> command = worker_.hear();
    if (!command) return;
    if (*command == ShimCommand::kInput) {
      if (in_.move()) worker_.look();
      return;
    }
    // Its SIGCHLD may still wait in the descriptor. A rank that had ended by itself before the
    // command came must not count as stopped by it: its end is evidence.
    reap();
    if (!tree_lives_) return;
    if (!tree_.rank_ended()) note_command();
    if (*command == ShimCommand::kTerminate) tell_to_end();
    if (*command == ShimCommand::kKill) kill();
  }

  void tell_to_end() {
    const bool again = tree_end_.terminated();
    tree_end_.told_to_end();
    if (again) return;
    if (tree_.rank_ended()) {
      ProcessTree::terminate(tree_.members());
    } else {
      tree_.signal(SIGTERM);
    }
  }

  void note_command() {
    // Only the state at the first command tells how the rank was found; what follows is the
    // command's doing.
    if (ledger_.stopped_by_command) return;
    ledger_.stopped_by_command = true;
    const std::optional<ProcStat> stat = read_proc_stat(tree_.rank());
    ledger_.process_state = stat ? stat->state : '\0';
  }

  ProcessLedger& ledger_;
  ProcessTree tree_;
  TreeEnd tree_end_;
  Output out_;
  Output err_;
  Input in_;
  WorkerLine worker_;
  bool tree_lives_ = true;
  bool killed_ = false;
  std::vector<std::string> remarks_;
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
  // The rank must inherit nothing that the worker has open: it would keep pipes and sockets alive
  // beyond the worker's own end.
  ::close_range(kShimFolderFd + 1, ~0U, 0);
  ProcessLedger* ledger = map_ledger();
  if (ledger == nullptr) return 70;  // EX_SOFTWARE; the worker finds the phase kCreated
  Shim shim(*ledger, ::strtoll(argv[1], nullptr, 10), ::strtoull(argv[2], nullptr, 10));
  ProcessTree::Program program;
  program.path = argv[3];
  program.directory = argv[4];
  program.argv = argv + 5;
  shim.run(program);
  return 0;
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  return longhaul::run(argc, argv);
}
