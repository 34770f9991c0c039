#include "cluster/failure/failure.h"

#include <signal.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// In a report: what was seen, in order. The first of it says most.
constexpr size_t kMaxEvidence = 100;
constexpr size_t kNamedRanks = 32;

std::string who(const RankRecord& rank) {
  return str_cat("rank ", rank.rank, " on ", rank.worker,
                 rank.pid > 0 ? str_cat(" (pid ", rank.pid, ")") : "");
}

// It ended by itself and not well. What ended because we stopped it says nothing, whatever its exit
// code.
bool failed_by_itself(const RankRecord& rank) {
  return rank.exit && !rank.exit->stopped_by_us &&
         (rank.exit->exit_code != 0 || rank.exit->signal != 0 || !rank.exit->launch_error.empty());
}

bool exited_zero(const RankRecord& rank) {
  return rank.exit && !rank.exit->stopped_by_us && rank.exit->exit_code == 0 &&
         rank.exit->signal == 0 && rank.exit->launch_error.empty();
}

std::string how_it_ended(const RankExit& exit) {
  if (!exit.launch_error.empty()) return str_cat("could not be started: ", exit.launch_error);
  if (exit.signal != 0) {
    return str_cat(exit.stopped_by_us ? "was stopped with " : "was ended by ",
                   signal_name(exit.signal));
  }
  return str_cat("exited with code ", exit.exit_code, exit.stopped_by_us ? " when stopped" : "");
}

// A reason found, before it is weighed against others.
struct Candidate {
  int strength = 0;  // the class of failure.h: 1 is strongest
  uint64_t order = 0;
  Instant ready_at;  // not believed before
  Verdict verdict;
  // True: something did fail, and the wait is only for a better account of it. No weaker reason is
  // believed before it. False: it may still prove wrong (the missing rank joins), so it holds up no
  // other reason.
  bool certain = true;
};

Verdict blame(const RankRecord& rank, FailureClass failure_class, std::string message) {
  return {failure_class, rank.rank, rank.worker, std::move(message), false};
}

// What the end of a process says about its cause, and how surely it is no victim's end.
struct Cause {
  FailureClass failure_class = FailureClass::kExitCode;
  int strength = 1;
  std::string text;
};

// The order matters. A program that could not run did not fail in any other way. Memory comes
// before exceptions and signals, because a failed allocation is an exception too and the OOM killer
// sends SIGKILL.
Cause cause_of(const RankRecord& rank) {
  const RankExit& exit = *rank.exit;
  const ExitEvidence& evidence = exit.evidence;
  if (!exit.launch_error.empty()) return {FailureClass::kLaunch, 1, how_it_ended(exit)};
  if (!evidence.cannot_run.empty()) {
    return {FailureClass::kLaunch, 1, str_cat("could not run: ", evidence.cannot_run)};
  }
  if (!evidence.out_of_memory.empty()) {
    return {FailureClass::kOutOfMemory, 1, str_cat("ran out of memory: ", evidence.out_of_memory)};
  }
  if (says_out_of_memory(evidence.exception)) {
    return {FailureClass::kOutOfMemory, 1, str_cat("ran out of memory: ", evidence.exception)};
  }
  if (!evidence.exception.empty()) {
    // Class 2: a rank without our library dies of a lost peer by an exception, too, and
    // fault_of_victim() does not know all of them.
    return {FailureClass::kException, 2, str_cat("failed: ", evidence.exception)};
  }
  if (exit.signal == SIGKILL) {
    return {FailureClass::kKilled, 1, str_cat(how_it_ended(exit), ", which Longhaul did not send")};
  }
  // When a host goes down every process on it gets SIGTERM, and an uncaught exception of a victim
  // ends in SIGABRT.
  const bool weak = exit.signal == SIGABRT || exit.signal == SIGTERM;
  if (exit.signal != 0) return {FailureClass::kSignal, weak ? 2 : 1, how_it_ended(exit)};
  return {FailureClass::kExitCode, 2, how_it_ended(exit)};
}

// Class 1 and 2: what the rank's own fault and end say.
std::optional<Candidate> own_reason(const RankRecord& rank, Instant now,
                                    const FailureOptions& options) {
  if (is_victim(rank)) return std::nullopt;
  if (rank.fault && (!rank.exit || rank.exit->launch_error.empty())) {
    const bool memory = says_out_of_memory(rank.fault->message);
    // Its exit code and last lines make the report better, so they are waited for; a rank that has
    // ended has told them already.
    return Candidate{1, rank.fault_order, rank.accounted() ? now : rank.fault_at + options.settle,
                     blame(rank, memory ? FailureClass::kOutOfMemory : FailureClass::kException,
                           str_cat(who(rank), memory ? " ran out of memory: " : " failed: ",
                                   rank.fault->message))};
  }
  if (!failed_by_itself(rank)) return std::nullopt;
  const Cause cause = cause_of(rank);
  return Candidate{cause.strength, rank.exit_order,
                   cause.strength == 1 ? now : rank.exited_at + options.look_round,
                   blame(rank, cause.failure_class, str_cat(who(rank), " ", cause.text))};
}

// Ranks that went with their workers.
using LostRanks = std::map<std::string_view, std::vector<std::string>>;

LostRanks lost_ranks(std::span<const RankRecord> ranks) {
  LostRanks lost;
  for (const RankRecord& rank : ranks) {
    if (rank.state == RankState::kLost) lost[rank.worker].push_back(std::to_string(rank.rank));
  }
  return lost;
}

std::optional<Candidate> worker_reason(const WorkerEvidence& worker, const LostRanks& lost,
                                       Instant now) {
  if (!worker.lost) return std::nullopt;
  // All of its ranks had ended before it was lost, and their own ends say more.
  const auto found = lost.find(worker.id);
  if (found == lost.end()) return std::nullopt;
  std::vector<std::string> held = found->second;
  const size_t count = held.size();
  if (count > kNamedRanks) {
    held.resize(kNamedRanks);
    held.emplace_back("...");
  }
  return Candidate{1,
                   worker.lost_order,
                   now,
                   {worker.preempted ? FailureClass::kPreempted : FailureClass::kWorkerLost,
                    std::nullopt, worker.id,
                    str_cat("worker ", worker.id, " on ", worker.host,
                            worker.preempted ? " was told to stop (" : " was lost (", worker.why,
                            ") with rank", count == 1 ? " " : "s ", join(held, ", ")),
                    false}};
}

// Ranks that joined and still need the others, and those of them that surely wait for one. Of those
// in an operation the one that began it last is enough to know: if it began after a rank had
// exited, that rank cannot have taken part.
struct Needy {
  const RankRecord* any = nullptr;       // the first
  const RankRecord* in_store = nullptr;  // the first that waits in the store
  const RankRecord* last_in = nullptr;   // in an operation, which it began last of all
};

Needy needy(std::span<const RankRecord> ranks) {
  Needy found;
  for (const RankRecord& rank : ranks) {
    if (!rank.joined() || rank.left || rank.accounted()) continue;
    if (found.any == nullptr) found.any = &rank;
    if (rank.waits_in_store_since && found.in_store == nullptr) found.in_store = &rank;
    const bool in_one = rank.progress && !rank.progress->operation.empty();
    const bool later = found.last_in == nullptr || rank.progress_at > found.last_in->progress_at;
    if (in_one && later) found.last_in = &rank;
  }
  return found;
}

// Class 1: exited 0 although the others cannot go on without it.
std::optional<Candidate> early_exit(const RankRecord& rank, const Needy& needy,
                                    const FailureOptions& options) {
  if (!exited_zero(rank) || rank.left || is_victim(rank)) return std::nullopt;
  if (!rank.joined() && needy.any != nullptr) {
    return Candidate{1, rank.exit_order, rank.exited_at,
                     blame(rank, FailureClass::kEarlyExit,
                           str_cat(who(rank), " exited with code 0 before it joined, and rank ",
                                   needy.any->rank, " waits for it"))};
  }
  // An operation that another rank began before this one exited may still end well. `progress_at`
  // is when the master heard of it.
  const bool began_after = needy.last_in != nullptr && needy.last_in->progress_at > rank.exited_at;
  const RankRecord* other = began_after ? needy.last_in : nullptr;
  if (needy.in_store != nullptr) other = needy.in_store;
  if (other == nullptr) return std::nullopt;
  // Not certain: the other rank may yet get what it waits for, or leave.
  return Candidate{
      1, rank.exit_order, rank.exited_at + options.settle,
      blame(rank, FailureClass::kEarlyExit,
            str_cat(who(rank), " exited with code 0 while rank ", other->rank, " still needed it")),
      false};
}

// Class 1: others joined long ago and this one never did. It comes last within its class, because
// the other reasons are something that was seen, and this is only something that was not. Not
// certain: the rank may join at any moment.
std::optional<Candidate> join_timeout(std::span<const RankRecord> ranks,
                                      const FailureOptions& options) {
  const RankRecord* first = nullptr;
  const RankRecord* missing = nullptr;
  for (const RankRecord& rank : ranks) {
    const bool waits = rank.joined() && !rank.left && !rank.accounted();
    if (waits && (first == nullptr || *rank.joined_at < *first->joined_at)) first = &rank;
    if (!rank.joined() && !rank.accounted() && missing == nullptr) missing = &rank;
  }
  if (first == nullptr || missing == nullptr) return std::nullopt;
  return Candidate{
      1, UINT64_MAX, *first->joined_at + options.join_timeout,
      blame(*missing, FailureClass::kJoinTimeout,
            str_cat(who(*missing), " did not call init() within ",
                    format_seconds(static_cast<double>(options.join_timeout.count()) / 1000),
                    " of rank ", first->rank, "'s doing so")),
      false};
}

// How many victims name this rank as the peer they lost.
std::map<Rank, int> count_pointers(std::span<const RankRecord> ranks) {
  std::map<Rank, int> pointers;
  for (const RankRecord& rank : ranks) {
    if (is_victim(rank) && rank.fault->peer >= 0) ++pointers[rank.fault->peer];
  }
  return pointers;
}

uint64_t sequence_of(const RankRecord& rank) {
  return rank.progress ? rank.progress->collective_sequence : 0;
}

// The shim looks at the process state when the first command to stop comes (RankExit), so this is
// known only of ranks that have been stopped: a first verdict is drawn without it.
bool found_stopped(const RankRecord& rank) {
  return rank.exit && rank.exit->process_state == "T";
}

// Among those who could have kept the others waiting, the likeliest: found stopped, still alive
// when the others gave up, pointed at most often, furthest behind, silent longest, lowest rank.
const RankRecord& likeliest(std::span<const RankRecord> ranks) {
  std::map<Rank, int> pointers = count_pointers(ranks);
  const RankRecord* best = nullptr;
  const auto better = [&](const RankRecord& a, const RankRecord& b) {
    if (found_stopped(a) != found_stopped(b)) return found_stopped(a);
    if (is_victim(a) != is_victim(b)) return !is_victim(a);
    if (pointers[a.rank] != pointers[b.rank]) return pointers[a.rank] > pointers[b.rank];
    if (sequence_of(a) != sequence_of(b)) return sequence_of(a) < sequence_of(b);
    if (is_victim(a)) return a.fault_order < b.fault_order;
    return a.progress_at < b.progress_at;
  };
  for (const RankRecord& rank : ranks) {
    // It keeps nobody waiting; from_victims() has dealt with one that left too early.
    if (exited_zero(rank)) continue;
    if (best == nullptr || better(rank, *best)) best = &rank;
  }
  return best != nullptr ? *best : ranks.front();
}

// ", since step 12, in all-reduce (collective 37), for 3.2s": as far as it said.
std::string since_when(const RankRecord& rank, const RankRecord& gave_up) {
  if (!rank.progress) return "";
  std::string text = str_cat(", since step ", rank.progress->step);
  if (!rank.progress->operation.empty()) text += str_cat(", in ", rank.progress->operation);
  if (rank.progress->collective_sequence > 0) {
    text += str_cat(" (collective ", rank.progress->collective_sequence, ")");
  }
  if (gave_up.fault_at > rank.moved_at) {
    text += str_cat(", for ", format_seconds(seconds_between(rank.moved_at, gave_up.fault_at)));
  }
  return text;
}

// Only victims have spoken: who is it that they all wait for? Precondition: there is a victim.
Verdict from_victims(std::span<const RankRecord> ranks) {
  const std::map<Rank, int> pointers = count_pointers(ranks);
  const RankRecord* first_victim = nullptr;
  bool deadline = false;
  for (const RankRecord& rank : ranks) {
    if (!is_victim(rank)) continue;
    deadline |= rank.fault->kind == ErrorKind::kDeadline;
    if (first_victim == nullptr || rank.fault_order < first_victim->fault_order) {
      first_victim = &rank;
    }
  }
  // A rank that victims name and that exited with code 0. Without leave() it is the culprit
  // whenever its exit was seen. With leave() it is only if its exit was seen before the first
  // victim spoke: a rank that leaves at the end of the training is no failure.
  for (const auto& [peer, count] : pointers) {
    if (static_cast<size_t>(peer) >= ranks.size()) continue;
    const RankRecord& rank = ranks[static_cast<size_t>(peer)];
    const bool too_early = !rank.left || rank.exit_order < first_victim->fault_order;
    if (exited_zero(rank) && !is_victim(rank) && too_early) {
      return blame(rank, FailureClass::kEarlyExit,
                   str_cat(who(rank), " exited with code 0 while rank ", first_victim->rank,
                           " still needed it"));
    }
  }
  // The victims may have given up because a rank never came.
  for (const RankRecord& rank : ranks) {
    if (!rank.joined() && !rank.accounted() && first_victim->joined()) {
      return blame(rank, FailureClass::kJoinTimeout,
                   str_cat(who(rank), " had not called init() when rank ", first_victim->rank,
                           " gave up waiting"));
    }
  }
  const RankRecord& rank = likeliest(ranks);
  Verdict verdict;
  if (!is_victim(rank) || found_stopped(rank) || deadline) {
    const std::string what = found_stopped(rank) ? " was stopped (state T)"
                             : is_victim(rank)   ? " is furthest behind"
                                                 : " is alive but does not answer";
    verdict = blame(
        rank, FailureClass::kHang,
        str_cat(who(rank), what, since_when(rank, *first_victim), "; rank ", first_victim->rank,
                " waited for it and gave up: ", first_victim->fault->message));
  } else {
    verdict =
        blame(*first_victim, FailureClass::kException,
              str_cat(who(*first_victim), " lost its peers and nobody died of anything else: ",
                      first_victim->fault->message));
  }
  // Who hangs is a guess, which the process states may correct once the ranks have been stopped
  // (refine_verdict()). The verdicts above stand on something that was seen, and are final.
  verdict.tentative = true;
  return verdict;
}

// Class 3: believed when the victims have had time to be joined by a culprit, and no lease is open.
std::optional<Candidate> victims_reason(std::span<const RankRecord> ranks,
                                        std::span<const WorkerEvidence> workers,
                                        const FailureOptions& options) {
  std::optional<Instant> first;
  Instant last;
  size_t silent = 0;      // could still say or show something
  bool deadline = false;  // somebody was late; else somebody is dead, and that will show
  for (const RankRecord& rank : ranks) {
    if (!is_victim(rank)) {
      silent += rank.accounted() ? 0 : 1;
      continue;
    }
    if (!first || rank.fault_at < *first) first = rank.fault_at;
    last = std::max(last, rank.fault_at);
    deadline |= rank.fault->kind == ErrorKind::kDeadline;
  }
  if (!first) return std::nullopt;
  std::set<std::string_view> holding;  // workers with ranks that may still say something
  for (const RankRecord& rank : ranks) {
    if (!rank.accounted()) holding.insert(rank.worker);
  }
  Instant ready = *first + options.settle;
  // If a deadline was missed, the one rank that has not spoken is the one that the others wait for,
  // and it may never speak.
  const bool all_spoke = silent == 0 || (silent == 1 && deadline);
  if (all_spoke && ranks.size() > 2) ready = std::min(ready, last + options.all_spoke);
  // A silent worker may turn out to be lost, and then that is what the victims died of.
  for (const WorkerEvidence& worker : workers) {
    if (!worker.lease_ends || !holding.contains(worker.id)) continue;
    ready = std::max(ready, *worker.lease_ends);
  }
  return Candidate{3, 0, ready, from_victims(ranks)};
}

// What its last output, or its host, adds to how it ended.
std::string in_its_words(const RankExit& exit) {
  const ExitEvidence& evidence = exit.evidence;
  for (const std::string* said :
       {&evidence.out_of_memory, &evidence.cannot_run, &evidence.exception}) {
    if (!said->empty()) return str_cat(" (", *said, ")");
  }
  return "";
}

std::string evidence_line(const RankRecord& rank) {
  std::string text = who(rank);
  if (rank.fault) text += str_cat(" said '", rank.fault->message, "'");
  if (rank.fault && rank.fault->peer >= 0) text += str_cat(" (rank ", rank.fault->peer, ")");
  if (rank.exit) text += str_cat(rank.fault ? ", " : " ", how_it_ended(*rank.exit));
  if (rank.exit && !rank.exit->stopped_by_us && !rank.fault) text += in_its_words(*rank.exit);
  if (found_stopped(rank)) text += ", its process was found stopped";
  if (rank.state == RankState::kLost) text += " was lost with its worker";
  if (!rank.joined() && !rank.exit) text += " had not joined";
  return text;
}

}  // namespace

bool is_victim(const RankRecord& rank) {
  return rank.fault &&
         (rank.fault->kind == ErrorKind::kPeerLost || rank.fault->kind == ErrorKind::kDeadline);
}

std::string signal_name(int signal) {
  const char* name = sigabbrev_np(signal);
  return name != nullptr ? str_cat("SIG", name) : str_cat("signal ", signal);
}

FailureDecision decide_culprit(std::span<const RankRecord> ranks,
                               std::span<const WorkerEvidence> workers, Instant now,
                               const FailureOptions& options) {
  std::vector<Candidate> candidates;
  const auto consider = [&](std::optional<Candidate> candidate) {
    if (candidate) candidates.push_back(std::move(*candidate));
  };
  const Needy waiting = needy(ranks);
  for (const RankRecord& rank : ranks) {
    consider(own_reason(rank, now, options));
    consider(early_exit(rank, waiting, options));
  }
  const LostRanks lost = lost_ranks(ranks);
  for (const WorkerEvidence& worker : workers) consider(worker_reason(worker, lost, now));
  consider(join_timeout(ranks, options));
  consider(victims_reason(ranks, workers, options));

  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(a.strength, a.order) < std::pair(b.strength, b.order);
  });
  // The strongest reason whose time has come is the verdict. A stronger one that is certain, and
  // not ready yet, keeps weaker ones from being believed before it.
  FailureDecision decision;
  for (const Candidate& candidate : candidates) {
    if (candidate.ready_at <= now) {
      decision.verdict = candidate.verdict;
      decision.wait_until.reset();
      return decision;
    }
    if (!decision.wait_until || candidate.ready_at < *decision.wait_until) {
      decision.wait_until = candidate.ready_at;
    }
    if (candidate.certain) break;
  }
  return decision;
}

Verdict refine_verdict(const Verdict& verdict, std::span<const RankRecord> ranks) {
  const bool has_victim = std::any_of(ranks.begin(), ranks.end(), is_victim);
  if (!verdict.tentative || !has_victim) return verdict;
  const bool shown = std::any_of(ranks.begin(), ranks.end(), found_stopped);
  return shown ? from_victims(ranks) : verdict;
}

FailureReport make_report(const Verdict& verdict, std::span<const RankRecord> ranks,
                          std::span<const WorkerEvidence> workers) {
  FailureReport report;
  report.failure_class = verdict.failure_class;
  report.rank = verdict.rank;
  report.worker = verdict.worker;
  report.message = verdict.message;
  report.exit_code = verdict.exit_code;
  for (const WorkerEvidence& worker : workers) {
    if (worker.id == verdict.worker) report.host = worker.host;
  }
  std::vector<std::pair<uint64_t, std::string>> lines;
  for (const RankRecord& rank : ranks) {
    const bool culprit = verdict.rank == rank.rank;
    if (culprit) {
      report.host = rank.host;
      report.pid = rank.pid;
      if (rank.exit && rank.exit->stopped_by_us) {
        report.last_lines = rank.exit->last_lines;  // its code is our doing
      } else if (rank.exit) {
        report.exit_code = rank.exit->exit_code;
        report.signal = rank.exit->signal;
        report.last_lines = rank.exit->last_lines;
        report.backtrace = rank.exit->evidence.backtrace;
      }
    } else if (!exited_zero(rank) && rank.state != RankState::kAssigned) {
      report.victims.push_back(rank.rank);
    }
    // Of the ranks beside the culprit only those are listed that show something: not those that
    // said nothing, that ended well, or that ended because they were told to.
    const bool silent = !rank.fault && !rank.exit && rank.state != RankState::kLost;
    const bool plain = rank.exit && rank.exit->stopped_by_us && !rank.fault && !found_stopped(rank);
    if (culprit || !(silent || plain || exited_zero(rank))) {
      const uint64_t order = rank.fault  ? rank.fault_order
                             : rank.exit ? rank.exit_order
                                         : UINT64_MAX;
      lines.emplace_back(order, evidence_line(rank));
    }
  }
  for (const WorkerEvidence& worker : workers) {
    if (worker.lost) {
      lines.emplace_back(worker.lost_order, str_cat("worker ", worker.id, ": ", worker.why));
    }
  }
  std::stable_sort(lines.begin(), lines.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  const size_t left_out = lines.size() - std::min(lines.size(), kMaxEvidence);
  lines.resize(lines.size() - left_out);
  for (auto& line : lines) report.evidence.push_back(std::move(line.second));
  if (left_out > 0) report.evidence.push_back(str_cat("and ", left_out, " more lines"));
  return report;
}

int job_exit_code(const FailureReport& report) {
  if (report.failure_class == FailureClass::kLaunch) {
    return report.exit_code != 0 ? report.exit_code : kCannotStartCode;
  }
  if (report.failure_class == FailureClass::kTimeLimit) return kTimeLimitCode;
  // In the other classes the exit code of the culprit, if it has one, does not say what went wrong:
  // it was lost, late or stopped by us, or it exited with 0.
  const bool own_code = report.failure_class == FailureClass::kExitCode ||
                        report.failure_class == FailureClass::kTasks ||
                        report.failure_class == FailureClass::kSignal ||
                        report.failure_class == FailureClass::kKilled ||
                        report.failure_class == FailureClass::kOutOfMemory ||
                        report.failure_class == FailureClass::kException;
  return own_code && report.exit_code != 0 ? report.exit_code : 1;
}

std::optional<RankFault> fault_of_victim(const RankExit& exit) {
  const std::string& said = exit.evidence.exception;
  if (exit.stopped_by_us || !says_peer_failed(said)) return std::nullopt;
  return RankFault{ErrorKind::kPeerLost, said, -1};
}

}  // namespace longhaul
