#include "apps/cli/job_text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

#include "apps/cli/failure_text.h"
#include "apps/cli/hang_text.h"
#include "apps/cli/names.h"
#include "apps/cli/progress.h"
#include "apps/cli/table.h"
#include "apps/cli/time_text.h"
#include "longhaul/base/strings.h"
#include "longhaul/membership/failure.h"

namespace longhaul::cli {
namespace {

constexpr size_t kReasonWidth = 60;

std::string age(uint64_t since_unix_ms, int64_t now_unix_ms) {
  if (since_unix_ms == 0) return "-";
  const int64_t ms = std::max<int64_t>(0, now_unix_ms - static_cast<int64_t>(since_unix_ms));
  return format_seconds(static_cast<double>(ms) / 1000);
}

std::string exit_column(const JobStatus& job) {
  return has_ended(job.state) ? std::to_string(job.exit_code) : "-";
}

std::string shorten(const std::string& text) {
  if (text.size() <= kReasonWidth) return text;
  return str_cat(std::string_view(text).substr(0, kReasonWidth - 3), "...");
}

std::string exit_of(const RankRecord& rank) {
  if (!rank.exit) return "-";
  return rank.exit->signal != 0 ? signal_name(rank.exit->signal)
                                : std::to_string(rank.exit->exit_code);
}

std::string loss_of(const RankRecord& rank) {
  if (!rank.progress || !rank.progress->has_loss) return "-";
  return format_general(rank.progress->loss, 4);
}

std::string note_of(const RankRecord& rank) {
  std::string note = rank.victim ? "victim" : "";
  if (rank.fault) note += (note.empty() ? "" : ": ") + rank.fault->message;
  return shorten(note);
}

Row row_of(const RankRecord& rank) {
  return {std::to_string(rank.rank),
          rank.worker.empty() ? "-" : rank.worker,
          rank.host.empty() ? "-" : rank.host,
          rank.pid > 0 ? std::to_string(rank.pid) : "-",
          std::string(name_of(rank.state)),
          rank.progress ? std::to_string(rank.progress->step) : "-",
          loss_of(rank),
          exit_of(rank),
          note_of(rank)};
}

}  // namespace

std::string quote_command(const std::vector<std::string>& command) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  std::vector<std::string> words;
  for (const std::string& word : command) {
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      words.push_back(word);
      continue;
    }
    std::string quoted = "'";
    for (const char letter : word) quoted += letter == '\'' ? "'\\''" : std::string(1, letter);
    words.push_back(quoted + "'");
  }
  return join(words, " ");
}

std::string render_jobs(const std::vector<JobStatus>& jobs, int64_t now_unix_ms) {
  std::vector<Row> rows;
  rows.reserve(jobs.size());
  for (const JobStatus& job : jobs) {
    rows.push_back(
        {job.id, job.spec.name.empty() ? "-" : job.spec.name, std::string(to_string(job.state)),
         job.spec.array ? str_cat(job.spec.array->tasks, " tasks") : std::to_string(job.spec.ranks),
         age(job.unix_ms_submitted, now_unix_ms), exit_column(job),
         shorten(job.reason.empty() ? quote_command(job.spec.command) : job.reason)});
  }
  return render_table({"JOB", "NAME", "STATE", "RANKS", "AGE", "EXIT", "REASON OR COMMAND"}, rows);
}

std::string render_nodes(const std::vector<NodeInfo>& nodes, int64_t now_unix_ms) {
  std::vector<Row> rows;
  rows.reserve(nodes.size());
  for (const NodeInfo& node : nodes) {
    rows.push_back(
        {node.id, node.host, node.address, name_of(node), str_cat(node.used_slots, "/", node.slots),
         node.gpus == 0 ? "-" : str_cat(node.used_gpus, "/", node.gpus),
         node.memory_bytes == 0
             ? "-"
             : str_cat(format_bytes(node.used_memory_bytes), "/", format_bytes(node.memory_bytes)),
         age(node.unix_ms_last_heard, now_unix_ms),
         node.jobs.empty() ? "-" : join(node.jobs, ",")});
  }
  return render_table(
      {"WORKER", "HOST", "ADDRESS", "STATE", "SLOTS", "GPUS", "MEMORY", "HEARD", "JOBS"}, rows);
}

std::string render_explanation(const Explanation& explanation) {
  std::string text = str_cat("job ", explanation.job, " ", to_string(explanation.state), "\n");
  text += "  why     " + explanation.reason + "\n";
  for (const std::string& detail : explanation.details) text += "  stack   " + detail + "\n";
  for (const std::string& help : explanation.help) text += "  help    " + help + "\n";
  for (const JobAhead& job : explanation.ahead) {
    text += str_cat("  before  ", job.id, job.name.empty() ? "" : " (" + job.name + ")", " ",
                    to_string(job.state));
    if (job.slots_held > 0) text += str_cat(", ", job.slots_held, " slots");
    text += "\n";
  }
  if (explanation.nodes.empty()) return text;
  std::vector<Row> rows;
  rows.reserve(explanation.nodes.size());
  for (const ExplainedNode& node : explanation.nodes) {
    rows.push_back({node.id, std::to_string(node.slots), std::to_string(node.free), node.verdict});
  }
  return text + "\n" + render_table({"WORKER", "SLOTS", "FREE", "NOW"}, rows);
}

std::string render_event(const ClusterEvent& event) {
  std::string number = std::to_string(event.number);
  if (number.size() < 6) number.insert(0, 6 - number.size(), ' ');
  std::string kind(to_string(event.kind));
  kind.resize(std::max<size_t>(kind.size(), 18), ' ');
  const std::string& whom = event.job.empty() ? event.worker : event.job;
  return str_cat(number, "  ", format_time(event.unix_ms), "  ", kind, "  ", whom,
                 whom.empty() ? "" : ": ", event.text, "\n");
}

std::string render_status(const JobStatus& job, int64_t now_unix_ms) {
  std::string text = render_progress(job, std::nullopt, now_unix_ms) + "\n";
  if (!job.spec.name.empty()) text += "  name      " + job.spec.name + "\n";
  text += "  command   " + quote_command(job.spec.command) + "\n";
  if (!job.spec.working_directory.empty())
    text += "  folder    " + job.spec.working_directory + "\n";
  if (!job.reason.empty()) text += "  reason    " + job.reason + "\n";
  if (job.unix_ms_expected_start > 0) {
    const auto start = static_cast<int64_t>(job.unix_ms_expected_start);
    const auto left = static_cast<double>(std::max(int64_t{0}, start - now_unix_ms)) / 1000;
    text += "  starts    in " + format_seconds(left) + " at the latest\n";
  }
  if (const std::string asked = beyond_slots(job.spec.demand().each); !asked.empty()) {
    text += "  each " + std::string(job.array ? "task has " : "rank has ") + asked + "\n";
  }
  if (job.spec.priority != 0) text += str_cat("  priority  ", job.spec.priority, "\n");
  if (has_ended(job.state)) text += str_cat("  exit code ", job.exit_code, "\n");
  if (job.generation > 1) {
    text += str_cat("  attempt   ", job.generation, " (", job.restarts, " of ",
                    job.spec.max_restarts, " restarts after failures, ", job.node_restarts, " of ",
                    job.spec.max_node_restarts, " after lost workers");
    if (job.oom_restarts > 0) text += str_cat(", ", job.oom_restarts, " after memory ran out");
    if (job.preemptions > 0) text += str_cat(", ", job.preemptions, " after preemptions");
    text += ")\n";
    for (const FailureReport& failure : job.earlier_failures) {
      text += "            before: " + failure.message + "\n";
    }
  }
  text += "  submitted " + age(job.unix_ms_submitted, now_unix_ms) + " ago\n";
  if (job.array) {
    for (const GivenUpTask& task : job.array->given_up) {
      text += str_cat("  given up  task ", task.task, ": ", task.reason, "\n");
    }
  }
  if (!job.ranks.empty()) {
    std::vector<Row> rows;
    rows.reserve(job.ranks.size());
    for (const RankRecord& rank : job.ranks) rows.push_back(row_of(rank));
    text += "\n" +
            render_table({"RANK", "WORKER", "HOST", "PID", "STATE", "STEP", "LOSS", "EXIT", "NOTE"},
                         rows);
  }
  if (job.hang) text += "\n" + hang_line(job, now_unix_ms) + "\n" + hang_details(job);
  if (job.failure) text += "\n" + render_failure(job, /*has_master=*/true);
  return text;
}

}  // namespace longhaul::cli
