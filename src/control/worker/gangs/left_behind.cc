#include "control/worker/gangs/left_behind.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/descriptors.h"
#include "control/worker/process/marked_processes.h"
#include "control/worker/process/process_folder.h"
#include "control/worker/process/shim_protocol.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// A shim that was told to kill waits ten seconds at most for its processes to be gone, then it ends
// (apps/shim/process_tree.cc). Two seconds more are for the shim itself.
constexpr int kShimPatienceMs = 12'000;

struct LeftRank {
  ProcessFolder folder;
  UniqueFd shim;     // invalid: it is gone
  UniqueFd control;  // open until the shim has heard
};

Result<std::vector<LeftRank>> find_ranks(const LaunchRecord& launch) {
  std::vector<LeftRank> ranks;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(launch.folder(), error)) {
    Result<ProcessFolder> folder = ProcessFolder::open(entry.path().string());
    if (!folder && folder.failure().kind == ErrorKind::kExhausted) return folder.failure();
    // Not a rank's folder (the request and the events lie here too), or one without a ledger, where
    // no shim was started yet.
    if (!folder) continue;
    Result<UniqueFd> shim = folder->find_shim();
    if (!shim) return shim.failure();
    ranks.push_back({std::move(*folder), std::move(*shim), UniqueFd()});
  }
  if (error && is_passing(error.value())) {
    return Failure{ErrorKind::kExhausted, str_cat(launch.folder(), ": ", error.message())};
  }
  return ranks;
}

void kill_shim(const UniqueFd& shim) {
  ::syscall(SYS_pidfd_send_signal, shim.get(), SIGKILL, nullptr, 0);
}

// The shim ends everything. One that takes no command is killed itself, unless it has written its
// farewell: then it is about to exit, and has ended everything already.
void tell_to_kill(LeftRank& rank) {
  Result<UniqueFd> control = rank.folder.connect();
  const char command = static_cast<char>(ShimCommand::kKill);
  if (control && ::send(control->get(), &command, 1, MSG_NOSIGNAL) == 1) {
    rank.control = std::move(*control);
  } else if (!rank.folder.ledger().has_farewell()) {
    kill_shim(rank.shim);
  }
}

void wait_until_gone(const LeftRank& rank) {
  pollfd watched{rank.shim.get(), POLLIN, 0};
  if (::poll(&watched, 1, kShimPatienceMs) > 0) return;
  kill_shim(rank.shim);
  (void)::poll(&watched, 1, kShimPatienceMs);
}

}  // namespace

Result<LeftBehind> find_left_behind(const std::string& spool_folder) {
  LeftBehind found;
  for (const LaunchRecord& record : LaunchRecord::find(spool_folder)) {
    const Result<std::vector<LeftRank>> ranks = find_ranks(record);
    if (!ranks) return ranks.failure();
    const bool understood = std::all_of(ranks->begin(), ranks->end(), [](const LeftRank& rank) {
      return rank.folder.understood();
    });
    Result<std::optional<v1::Launch>> request = record.read();
    if (!request) return request.failure();
    // A ledger of another version cannot be read, so its rank cannot be taken over; and a gang is
    // of no use without one of its ranks.
    if (*request && understood) {
      found.adoptable.push_back(std::move(**request));
    } else {
      found.unusable.push_back(record);
    }
  }
  return found;
}

Result<int> clean_up(const std::vector<LaunchRecord>& launches) {
  std::vector<LeftRank> ranks;
  for (const LaunchRecord& launch : launches) {
    Result<std::vector<LeftRank>> found = find_ranks(launch);
    if (!found) return found.failure();
    for (LeftRank& rank : *found) ranks.push_back(std::move(rank));
  }
  // All of them are told before any is waited for, so that they end side by side.
  int running = 0;
  for (LeftRank& rank : ranks) {
    if (!rank.shim.valid()) continue;
    ++running;
    tell_to_kill(rank);
  }
  for (const LeftRank& rank : ranks) {
    if (rank.shim.valid()) wait_until_gone(rank);
    // Without a farewell some processes may be left: those that a killed shim could not end, and a
    // shim that had not introduced itself yet. The token in their environment finds them.
    const bool complete =
        rank.folder.understood() && rank.folder.refresh() && rank.folder.ledger().has_farewell();
    if (!complete) kill_marked_processes(rank.folder.mark());
  }
  for (const LaunchRecord& launch : launches) launch.remove();
  return running;
}

}  // namespace longhaul
