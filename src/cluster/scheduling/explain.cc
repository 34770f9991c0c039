#include "cluster/scheduling/explain.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr size_t kListed = 5;

std::string count(int64_t number, const char* thing) {
  return str_cat(number, " ", thing, number == 1 ? "" : "s");
}

std::string seconds(milliseconds time) {
  return format_seconds(static_cast<double>(std::max<int64_t>(0, time.count())) / 1000);
}

// "gpu-a, gpu-b and 3 more".
std::string name_some(const std::vector<std::string>& names) {
  if (names.size() <= kListed) return join(names, ", ");
  const std::vector<std::string> some(names.begin(), names.begin() + kListed);
  return str_cat(join(some, ", "), " and ", names.size() - kListed, " more");
}

// --- Room: in ranks, or in tasks ---------------------------------------------------------------

// What a node with so much of everything could take of this job.
int takes(const JobSpec& spec, const Resources& room) {
  const int fits = how_many(room, spec.demand().each);
  if (spec.array) return fits;
  if (spec.min_nodes > 0) return fits >= spec.max_ranks_per_worker ? spec.max_ranks_per_worker : 0;
  return spec.max_ranks_per_worker > 0 ? std::min(fits, spec.max_ranks_per_worker) : fits;
}

// The least that lets the job start.
int wants(const JobSpec& spec) {
  if (spec.array) return 1;
  return spec.min_nodes > 0 ? spec.min_nodes * spec.max_ranks_per_worker : spec.ranks;
}

// What all nodes together could take if nothing else ran there.
template <typename Counts>
int could_take(const ExplainFacts& facts, Counts counts) {
  return std::accumulate(facts.nodes.begin(), facts.nodes.end(), 0,
                         [&](int sum, const NodeFacts& node) {
                           return sum + (counts(node) ? takes(facts.job.spec, node.total) : 0);
                         });
}

template <typename Matches>
std::vector<std::string> nodes_that(const ExplainFacts& facts, Matches matches) {
  std::vector<std::string> names;
  for (const NodeFacts& node : facts.nodes) {
    if (matches(node)) names.push_back(node.id);
  }
  return names;
}

std::string verdict_on(const JobSpec& spec, const NodeFacts& node) {
  if (!node.ready) return "unreachable";
  if (node.drained) return "drained: nothing new is placed here";
  if (node.free.slots == 0) return "full";
  const char* const noun = spec.array ? "task" : "rank";
  const Resources each = spec.demand().each;
  if (how_many(node.free, each) == 0) {
    return str_cat("too little: a ", noun, " needs ", beyond_slots(each));
  }
  const int room = takes(spec, node.free);
  if (room == 0) return str_cat("too little: a node needs ", spec.max_ranks_per_worker, " free");
  return str_cat("room for ", count(room, noun));
}

// --- One state each ----------------------------------------------------------------------------

std::vector<std::string> what_would_give_room(const ExplainFacts& facts) {
  std::vector<std::string> help;
  const JobSpec& spec = facts.job.spec;
  const auto usable = [](const NodeFacts& node) { return node.ready && !node.drained; };
  const auto drained = [](const NodeFacts& node) { return node.drained; };
  const auto silent = [](const NodeFacts& node) { return !node.ready && !node.drained; };
  const int wanted = wants(spec);
  const int all = could_take(facts, [](const NodeFacts&) { return true; });
  if (facts.nodes.empty()) {
    help.emplace_back("no worker is here: start longhaul-worker on a host");
    return help;
  }
  if (all < wanted) {
    help.push_back(str_cat("all workers together could take ", count(all, "rank"),
                           spec.min_nodes > 0 ? " on nodes large enough" : "",
                           ": start more workers, or ask for no more than that"));
  }
  // Only where these would help: otherwise the room is there, and it is in use.
  if (could_take(facts, usable) < wanted) {
    if (const auto names = nodes_that(facts, silent); !names.empty()) {
      help.push_back(str_cat("cannot be reached: ", name_some(names),
                             "; their slots count again when they are back"));
    }
    for (const std::string& name : nodes_that(facts, drained)) {
      if (help.size() >= kListed) break;
      help.push_back(str_cat("drained: `longhaul drain --undo ", name, "` gives its slots back"));
    }
  }
  std::vector<std::string> holders;
  for (const JobAhead& job : facts.ahead) {
    if (job.slots_held > 0) {
      holders.push_back(str_cat(job.id, " (", count(job.slots_held, "slot"), ")"));
    }
  }
  if (!holders.empty()) {
    help.push_back(str_cat("slots are free again when these end: ", name_some(holders)));
  }
  return help;
}

void explain_pending(const ExplainFacts& facts, Explanation* made) {
  const JobStatus& job = facts.job;
  for (const NodeFacts& node : facts.nodes) {
    made->nodes.push_back({node.id, node.total.slots, node.free.slots, verdict_on(job.spec, node)});
  }
  made->ahead = facts.ahead;
  made->reason = job.reason.empty() ? "it is about to be placed" : job.reason;
  if (facts.starts_again_in) {
    made->reason = str_cat("attempt ", job.generation, " is placed in ",
                           seconds(*facts.starts_again_in), "; ", made->reason);
    made->help.push_back(str_cat("`longhaul logs ", job.id, " --attempt ", job.generation - 1,
                                 "` shows what the last attempt printed"));
    return;
  }
  made->help = what_would_give_room(facts);
}

void explain_starting(const ExplainFacts& facts, Explanation* made) {
  made->reason = facts.unprepared.empty()
                     ? "every worker can start its program; the ranks are being started"
                     : str_cat("asked whether they can start its program, and no answer yet: ",
                               name_some(facts.unprepared));
  if (facts.acts_in) made->reason += str_cat("; it fails in ", seconds(*facts.acts_in));
  made->help.emplace_back("`longhaul nodes` shows when a worker was last heard");
}

std::string array_counts(const JobStatus& job) {
  const TaskCounts& counts = job.array->counts;
  return str_cat(counts.in(TaskState::kDone), " of ", job.spec.array->tasks, " tasks done, ",
                 counts.in(TaskState::kLeased), " running, ", counts.in(TaskState::kWaiting),
                 " waiting for slots, ", counts.in(TaskState::kBackingOff),
                 " waiting to be tried again, ", counts.in(TaskState::kQuarantined), " given up");
}

// The ranks of each worker that cannot be reached.
std::vector<std::string> silent_holders(const ExplainFacts& facts) {
  std::set<WorkerId> holders;
  for (const RankRecord& rank : facts.job.ranks) {
    if (!rank.accounted()) holders.insert(rank.worker);
  }
  return nodes_that(
      facts, [&](const NodeFacts& node) { return !node.ready && holders.contains(node.id); });
}

void explain_running(const ExplainFacts& facts, Explanation* made) {
  const JobStatus& job = facts.job;
  if (job.array) {
    made->reason = "it runs: " + array_counts(job);
    made->help.push_back(str_cat("`longhaul results ", job.id, " -f` gives results as they come"));
    return;
  }
  const auto joined = std::count_if(job.ranks.begin(), job.ranks.end(),
                                    [](const RankRecord& rank) { return rank.joined(); });
  const auto over = std::count_if(job.ranks.begin(), job.ranks.end(),
                                  [](const RankRecord& rank) { return rank.accounted(); });
  made->reason = str_cat("it runs: ", count(static_cast<int64_t>(job.ranks.size()), "rank"), ", ",
                         joined, " joined, ", over, " ended");
  if (const auto silent = silent_holders(facts); !silent.empty()) {
    made->reason += "; cannot be reached: " + name_some(silent);
    made->help.emplace_back(
        "silence is not failure: their ranks count as lost when the lease of "
        "the worker has run out");
  }
  if (job.hang) {
    made->reason +=
        str_cat("; nothing has moved for ", seconds(facts.quiet), ": ", job.hang->message);
    made->details = job.hang->stack;
    if (job.hang->process_state == "T") {
      made->help.emplace_back("its process is stopped (state T): SIGCONT lets it go on");
    }
  }
  made->help.push_back(str_cat("`longhaul logs ", job.id, " -f` shows what its ranks print"));
}

void explain_stopping(const ExplainFacts& facts, Explanation* made) {
  const JobStatus& job = facts.job;
  std::vector<std::string> left;
  for (const RankRecord& rank : job.ranks) {
    if (!rank.accounted()) left.push_back(str_cat("rank ", rank.rank, " on ", rank.worker));
  }
  made->reason = "it is being stopped: " + job.reason;
  if (!left.empty()) made->reason += "; not ended yet: " + name_some(left);
  if (job.array) made->reason += "; " + array_counts(job);
  if (facts.acts_in) {
    made->reason += str_cat(facts.killed ? "; what is left counts as lost in " : "; SIGKILL in ",
                            seconds(*facts.acts_in));
  }
  if (!facts.killed) {
    made->help.push_back(str_cat("`longhaul stop ", job.id, " --force` kills it at once"));
  }
}

void explain_ended(const JobStatus& job, Explanation* made) {
  made->reason =
      str_cat("it ", job.state == JobState::kStopped ? "was stopped" : to_string(job.state),
              job.reason.empty() ? "" : ": " + job.reason);
  if (job.state != JobState::kFailed) return;
  made->help.push_back(str_cat("`longhaul status ", job.id, "` shows who failed first and why"));
  made->help.push_back(str_cat("`longhaul logs ", job.id, "` shows what it printed"));
}

}  // namespace

Explanation explain(const ExplainFacts& facts) {
  Explanation made;
  made.job = facts.job.id;
  made.state = facts.job.state;
  switch (facts.job.state) {
    case JobState::kPending:
      explain_pending(facts, &made);
      break;
    case JobState::kStarting:
      explain_starting(facts, &made);
      break;
    case JobState::kRunning:
      explain_running(facts, &made);
      break;
    case JobState::kStopping:
      explain_stopping(facts, &made);
      break;
    default:
      explain_ended(facts.job, &made);
      break;
  }
  return made;
}

}  // namespace longhaul
