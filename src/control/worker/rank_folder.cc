#include "control/worker/rank_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "control/worker/marked_processes.h"
#include "control/worker/proc_stat.h"
#include "control/worker/shim_protocol.h"
#include "longhaul/base/check.h"
#include "longhaul/base/strings.h"
#include "longhaul/control/agent_client.h"

namespace longhaul {
namespace {

Failure failure(const std::string& path, int error_number) {
  return {ErrorKind::kUnavailable, str_cat(path, ": ", ::strerror(error_number))};
}

}  // namespace

void RankFolder::Unmap::operator()(RankLedger* ledger) const {
  ::munmap(ledger, sizeof(RankLedger));
}

Result<RankFolder> RankFolder::map(const std::string& path, int open_flags) {
  RankFolder folder;
  folder.path_ = path;
  folder.fd_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.fd_.valid()) return failure(path, errno);
  const std::string file = str_cat(path, "/", RankLedger::kFileName);
  const UniqueFd fd(::openat(folder.fd(), RankLedger::kFileName, O_RDWR | O_CLOEXEC | open_flags,
                             S_IRUSR | S_IWUSR));
  if (!fd.valid()) return failure(file, errno);
  // Allocated now: writing to the page later cannot fail.
  if ((open_flags & O_CREAT) != 0) {
    const int error = ::posix_fallocate(fd.get(), 0, RankLedger::kFileBytes);
    if (error != 0) return failure(file, error);
  }
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return failure(file, errno);
  if (info.st_size < RankLedger::kFileBytes) {
    return Failure{ErrorKind::kCorrupt, file + ": not a ledger"};
  }
  void* page = ::mmap(nullptr, sizeof(RankLedger), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return failure(file, errno);
  folder.ledger_.reset(static_cast<RankLedger*>(page));
  return folder;
}

Result<RankFolder> RankFolder::create(const std::string& path, const std::string& token) {
  if (::mkdir(path.c_str(), S_IRWXU) != 0) return failure(path, errno);
  Result<RankFolder> folder = map(path, O_CREAT | O_EXCL);
  if (!folder) return folder;
  RankLedger& ledger = folder->ledger();
  const bool fits = token.size() < sizeof(ledger.token);
  LONGHAUL_CHECK(fits);
  std::copy(token.begin(), token.end(), ledger.token);
  ledger.version = RankLedger::kVersion;
  ledger.magic = RankLedger::kMagic;
  return folder;
}

Result<RankFolder> RankFolder::open(const std::string& path) {
  Result<RankFolder> folder = map(path, 0);
  if (folder && (folder->ledger().magic != RankLedger::kMagic || folder->token().empty())) {
    return Failure{ErrorKind::kCorrupt,
                   str_cat(path, "/", RankLedger::kFileName, ": not a ledger")};
  }
  return folder;
}

std::string RankFolder::token() const {
  return {ledger_->token, ::strnlen(ledger_->token, sizeof(ledger_->token))};
}

std::string RankFolder::mark() const {
  return str_cat(AgentClient::kTokenVariable, "=", token());
}

uint64_t RankFolder::call_id(uint64_t number, uint64_t fresh) const {
  for (const RankLedger::Call& call : ledger_->calls) {
    if (call.number.load(std::memory_order_acquire) == number) return call.call_id;
  }
  // Killed in the middle of this, the worker has not asked the master yet.
  RankLedger::Call& slot = ledger_->calls[ledger_->next_call++ % RankLedger::kCalls];
  slot.number.store(0, std::memory_order_release);
  slot.call_id = fresh;
  slot.number.store(number, std::memory_order_release);
  return fresh;
}

UniqueFd RankFolder::find_shim() const {
  if (ledger_->phase.load(std::memory_order_acquire) == RankPhase::kCreated) return UniqueFd();
  // Taken before the look, so that the look is at the process it holds.
  UniqueFd process(open_pidfd(ledger_->shim_pid));
  const std::optional<ProcStat> stat = read_proc_stat(ledger_->shim_pid);
  const bool same = stat && stat->running() && stat->start_time == ledger_->shim_start_time;
  return same ? std::move(process) : UniqueFd();
}

Result<UniqueFd> RankFolder::connect() const {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return failure(path_, errno);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // By the descriptor: a path of any length would do, a socket's may not.
  const std::string name = str_cat("/proc/self/fd/", fd(), "/", kShimSocketName);
  std::copy(name.begin(), name.end(), address.sun_path);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return failure(str_cat(path_, "/", kShimSocketName), errno);
  }
  return socket;
}

}  // namespace longhaul
