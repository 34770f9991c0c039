#include "control/worker/process/process_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/descriptors.h"
#include "control/worker/process/marked_processes.h"
#include "control/worker/process/proc_stat.h"
#include "control/worker/process/shim_protocol.h"
#include "longhaul/agent/client/agent_client.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

Failure failure(const std::string& path, int error_number) {
  return {is_passing(error_number) ? ErrorKind::kExhausted : ErrorKind::kUnavailable,
          str_cat(path, ": ", ::strerror(error_number))};
}

}  // namespace

Result<ProcessFolder> ProcessFolder::attach(const std::string& path, int open_flags) {
  ProcessFolder folder;
  folder.path_ = path;
  folder.fd_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.fd_.valid()) return failure(path, errno);
  const std::string file = str_cat(path, "/", ProcessLedger::kFileName);
  folder.file_.reset(::openat(folder.fd(), ProcessLedger::kFileName,
                              O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | open_flags,
                              S_IRUSR | S_IWUSR));
  if (!folder.file_.valid()) return failure(file, errno);
  // Allocated before the rank runs: on a full disk the exit code can still be written.
  if ((open_flags & O_CREAT) != 0) {
    const int error = ::posix_fallocate(folder.file_.get(), 0, ProcessLedger::kFileBytes);
    if (error != 0) return failure(file, error);
  }
  struct stat info{};
  if (::fstat(folder.file_.get(), &info) != 0) return failure(file, errno);
  if (!S_ISREG(info.st_mode) || info.st_size < ProcessLedger::kFileBytes) {
    return Failure{ErrorKind::kCorrupt, file + ": not a ledger"};
  }
  folder.ledger_ = std::make_unique<ProcessLedger>();
  return folder;
}

Result<ProcessFolder> ProcessFolder::create(const std::string& path, const std::string& token) {
  if (::mkdir(path.c_str(), S_IRWXU) != 0) return failure(path, errno);
  Result<ProcessFolder> folder = attach(path, O_CREAT | O_EXCL);
  if (!folder) {
    // Whoever tries again later, when there is room, must not find the name taken. Nothing but the
    // ledger can be in it, and looking into it would take a descriptor.
    ::unlink(str_cat(path, "/", ProcessLedger::kFileName).c_str());
    ::rmdir(path.c_str());
    return folder;
  }
  ProcessLedger& ledger = *folder->ledger_;
  const bool fits = token.size() < sizeof(ledger.token);
  LONGHAUL_CHECK(fits);
  std::copy(token.begin(), token.end(), ledger.token);
  ledger.version = ProcessLedger::kVersion;
  ledger.magic = ProcessLedger::kMagic;
  // Killed before this, the worker leaves zeros, which open() takes for no ledger: then no shim was
  // started yet.
  folder->write(ledger);
  return folder;
}

Result<ProcessFolder> ProcessFolder::open(const std::string& path) {
  Result<ProcessFolder> folder = attach(path, 0);
  if (!folder) return folder;
  const Result<void> is_ledger = folder->read(*folder->ledger_);
  if (!is_ledger) return is_ledger.failure();
  if (!folder->token().empty()) return folder;
  return Failure{ErrorKind::kCorrupt,
                 str_cat(path, "/", ProcessLedger::kFileName, ": not a ledger")};
}

Result<void> ProcessFolder::read(ProcessLedger& fresh) const {
  const auto read_at = [this](void* field, size_t size, off_t at) {
    return ::pread(file_.get(), field, size, at) == static_cast<ssize_t>(size);
  };
  // The shim writes the fields of a phase, and then the phase. The phase is read before all others,
  // so none is seen without its fields.
  RankPhase phase{};
  const bool seen = read_at(&phase, sizeof(phase), offsetof(ProcessLedger, phase));
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!seen || !read_at(&fresh, sizeof(fresh), 0) || fresh.magic != ProcessLedger::kMagic) {
    return Failure{ErrorKind::kCorrupt,
                   str_cat(path_, "/", ProcessLedger::kFileName, ": not a ledger")};
  }
  fresh.phase = phase;
  return {};
}

// Takes over what the shim writes. The worker's own fields are known here, and the rank may have
// written anything over them.
bool ProcessFolder::refresh() const {
  ProcessLedger fresh{};
  if (!read(fresh)) return false;
  ledger_->shim_pid = fresh.shim_pid;
  ledger_->shim_start_time = fresh.shim_start_time;
  ledger_->phase = fresh.phase.load();
  ledger_->rank_pid = fresh.rank_pid;
  ledger_->failed_step = fresh.failed_step;
  ledger_->error_number = fresh.error_number;
  ledger_->wait_status = fresh.wait_status;
  ledger_->stopped_by_command = fresh.stopped_by_command;
  ledger_->process_state = fresh.process_state;
  std::copy(std::begin(fresh.ended_too), std::end(fresh.ended_too), ledger_->ended_too);
  // Neither goes back, whatever the rank writes here.
  std::atomic<uint64_t>& taken = ledger_->input.taken;
  taken = std::clamp<uint64_t>(fresh.input.taken, taken, std::max(taken, ledger_->input.given));
  if (fresh.input.closed) ledger_->input.closed = true;
  for (int i = 0; i < ProcessLedger::kStreams; ++i) {
    // A stream never becomes shorter, whatever its rank writes here.
    std::atomic<uint64_t>& end = ledger_->streams[i].end;
    end = std::max<uint64_t>(end, fresh.streams[i].end);
  }
  return true;
}

// `field` is one of *ledger_.
template <typename Field>
void ProcessFolder::write(const Field& field) const {
  const auto* begin = reinterpret_cast<const char*>(ledger_.get());
  const auto* at = reinterpret_cast<const char*>(&field);
  // A failure is ignored, see set_orders(): only a worker that comes after this one misses it.
  (void)!::pwrite(file_.get(), at, sizeof(field), at - begin);
}

void ProcessFolder::set_orders(const ProcessLedger::Orders& orders) const {
  ledger_->orders = orders;
  write(ledger_->orders);
}

void ProcessFolder::set_acknowledged(int stream, uint64_t offset) const {
  ledger_->streams[stream].acknowledged = offset;
  write(ledger_->streams[stream].acknowledged);
}

void ProcessFolder::set_input(uint64_t given, bool ended) const {
  ledger_->input.given = given;
  write(ledger_->input.given);
  // After `given`: whoever sees the end must also see all that comes before it.
  ledger_->input.ended = ended;
  write(ledger_->input.ended);
}

std::string ProcessFolder::token() const {
  return {ledger_->token, ::strnlen(ledger_->token, sizeof(ledger_->token))};
}

std::string ProcessFolder::mark() const {
  return str_cat(AgentClient::kTokenVariable, "=", token());
}

uint64_t ProcessFolder::call_id(uint64_t number, uint64_t fresh) const {
  for (const ProcessLedger::Call& call : ledger_->calls) {
    if (call.number == number) return call.call_id;
  }
  ProcessLedger::Call& slot = ledger_->calls[ledger_->next_call++ % ProcessLedger::kCalls];
  slot.number = number;
  slot.call_id = fresh;
  // The master is asked after this. So a worker that is killed before or between these two writes
  // loses nothing: the slot, which the next call will use again, names a call that was never made.
  write(slot);
  write(ledger_->next_call);
  return fresh;
}

Result<UniqueFd> ProcessFolder::find_shim() const {
  if (ledger_->phase == RankPhase::kCreated || ledger_->shim_pid <= 0) return UniqueFd();
  const auto cannot_tell = [this](int error_number) {
    return failure(str_cat("shim ", ledger_->shim_pid, " of ", path_), error_number);
  };
  // The pidfd is taken before the look at /proc. When the look then finds the shim's start time,
  // the pid was the shim's all along, and the pidfd is of the shim.
  UniqueFd process(open_pidfd(ledger_->shim_pid));
  if (!process.valid()) return errno == ESRCH ? Result<UniqueFd>(UniqueFd()) : cannot_tell(errno);
  const std::optional<ProcStat> stat = read_proc_stat(ledger_->shim_pid);
  if (!stat && errno != ENOENT && errno != ESRCH) return cannot_tell(errno);
  const bool same = stat && stat->running() && stat->start_time == ledger_->shim_start_time;
  return same ? std::move(process) : UniqueFd();
}

Result<UniqueFd> ProcessFolder::connect() const {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return failure(path_, errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // Through the descriptor, because a socket's address has room for 107 bytes of path only.
  const std::string name = str_cat("/proc/self/fd/", fd(), "/", kShimSocketName);
  std::copy(name.begin(), name.end(), address.sun_path);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return failure(str_cat(path_, "/", kShimSocketName), errno);
  }
  return socket;
}

}  // namespace longhaul
