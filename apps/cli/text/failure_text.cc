#include "apps/cli/text/failure_text.h"

#include <csignal>
#include <cstring>

#include "apps/cli/commands/exit_codes.h"
#include "apps/cli/follow/shown.h"
#include "cluster/failure/failure.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

// "task 505 and 2 more".
std::string failed_tasks(const JobStatus& job) {
  if (!job.array || job.array->given_up.empty()) return "the program: no task of it succeeded";
  const TaskIndex more = job.array->counts.in(TaskState::kQuarantined)-1;
  return str_cat("task ", job.array->given_up.front().task,
                 more > 0 ? str_cat(" and ", more, " more") : "");
}

std::string culprit(const JobStatus& job) {
  const FailureReport& failure = *job.failure;
  if (failure.rank) return str_cat("rank ", *failure.rank);
  if (!failure.worker.empty()) return "worker " + failure.worker;
  switch (failure.failure_class) {
    case FailureClass::kTimeLimit:
      return str_cat("its time limit of ",
                     format_seconds(static_cast<double>(job.spec.time_limit.count()) / 1000));
    case FailureClass::kTasks:
      return failed_tasks(job);
    case FailureClass::kNoRoom:
      return "too few free slots";
    case FailureClass::kStateDamaged:
      return "the master's database";
    default:
      return "the cluster";
  }
}

std::string place(const FailureReport& failure) {
  std::vector<std::string> parts;
  if (!failure.host.empty()) parts.push_back("host " + failure.host);
  if (!failure.worker.empty() && failure.rank) parts.push_back("worker " + failure.worker);
  if (failure.pid > 0) parts.push_back(str_cat("pid ", failure.pid));
  return join(parts, ", ");
}

// "exit code 3", "signal, SIGKILL", "hang".
std::string class_line(const FailureReport& failure) {
  const std::string name(to_string(failure.failure_class));
  if (failure.failure_class == FailureClass::kExitCode)
    return str_cat(name, " ", failure.exit_code);
  if (failure.signal != 0) return str_cat(name, ", ", signal_name(failure.signal));
  return failure.exit_code == 0 ? name : str_cat(name, ", exit code ", failure.exit_code);
}

std::string after_signal(int signal) {
  if (signal == SIGSEGV || signal == SIGABRT || signal == SIGBUS || signal == SIGFPE ||
      signal == SIGILL) {
    return "the program crashed: build it with -g for lines in the backtrace, run it alone under a "
           "debugger, or keep its core dump (ulimit -c)";
  }
  return str_cat("find out who sent ", signal_name(signal), " to that process");
}

std::string advice(const JobStatus& job) {
  const FailureReport& failure = *job.failure;
  switch (failure.failure_class) {
    case FailureClass::kExitCode:
    case FailureClass::kException:
      return "read what " + culprit(job) + " printed before it ended";
    case FailureClass::kSignal:
      return after_signal(failure.signal);
    case FailureClass::kLaunch:
      if (failure.exit_code == kExitTryLater) {
        return "that host had no files, processes, memory or disk left: try again later, or with "
               "fewer ranks there";
      }
      return "make sure that the program and the libraries it needs are there under that very path "
             "on every worker's host";
    case FailureClass::kKilled:
      return str_cat(
          "find out who killed that process: a user, a batch system, or the kernel for "
          "want of memory, where the worker may not read its log: see dmesg on ",
          failure.host.empty() ? "that host" : failure.host);
    case FailureClass::kOutOfMemory:
      return "give it more memory or less to do: smaller batches, fewer ranks a host; "
             "--max-oom-restarts tries again";
    case FailureClass::kPreempted:
      return "run it again; --max-preemptions does so by itself";
    case FailureClass::kJoinTimeout:
      return "see what " + culprit(job) +
             " does before longhaul::init(); raise --join-timeout if it is only slow";
    case FailureClass::kEarlyExit:
      return "give every rank the same number of steps, and let none return before the others";
    case FailureClass::kHang:
      return "look for what stopped " + culprit(job) +
             ": a debugger, a stuck disk, a collective that the others did not call";
    case FailureClass::kWorkerLost:
      return "see `longhaul nodes`, start the worker again on that host, then run the job again";
    case FailureClass::kNoRoom:
      return "ask for fewer --ranks, start more workers, or leave --fail-when-full away to wait";
    case FailureClass::kTimeLimit:
      return "give it a longer --time-limit, or find out what takes so long";
    case FailureClass::kTasks:
      return "see which with `longhaul status " + job.id +
             "`; the results of the others: `longhaul results " + job.id +
             "`; to run what failed again: `longhaul map --retry-failed " + job.id + "`";
    case FailureClass::kStateDamaged:
      return "submit it again; a copy of the database from before (longhaul-master backup) may "
             "still "
             "have it";
  }
  return "";
}

void append_block(const std::string& label, const std::vector<std::string>& lines,
                  std::string* text) {
  bool first = true;
  for (const std::string& line : lines) {
    std::string head = first ? label : "";
    head.resize(12, ' ');
    *text += "  " + head + line + "\n";
    first = false;
  }
}

}  // namespace

std::string name_ranks(const std::vector<Rank>& ranks) {
  if (ranks.size() == 1) return str_cat("rank ", ranks[0]);
  std::string text = "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    text += str_cat(i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", ranks[i]);
  }
  return text;
}

std::string render_failure(const JobStatus& raw, bool has_master) {
  if (!raw.failure) return "";
  const JobStatus job = shown(raw);
  const FailureReport& failure = *job.failure;
  std::string text =
      str_cat("longhaul: job ", job.id,
              " failed: ", failure.message.empty() ? job.reason : failure.message, "\n");
  append_block("culprit",
               {culprit(job) + (place(failure).empty() ? "" : " (" + place(failure) + ")")}, &text);
  append_block("class", {class_line(failure)}, &text);
  append_block("evidence", failure.evidence, &text);
  append_block("backtrace", failure.backtrace, &text);
  if (!failure.last_lines.empty()) {
    std::vector<std::string> lines;
    lines.reserve(failure.last_lines.size());
    for (const std::string& line : failure.last_lines) lines.push_back("| " + line);
    append_block("last lines", lines, &text);
  }
  if (!failure.victims.empty()) {
    append_block("victims", {name_ranks(failure.victims) + ": stopped because of it"}, &text);
  }
  append_block("next", {advice(job)}, &text);
  if (has_master && failure.rank) {
    append_block("", {str_cat("all it printed: longhaul logs ", job.id, " --rank ", *failure.rank)},
                 &text);
  }
  return text;
}

}  // namespace longhaul::cli
