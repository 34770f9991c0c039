#include "apps/cli/text/job_text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

#include "apps/cli/follow/progress.h"
#include "apps/cli/follow/shown.h"
#include "apps/cli/text/failure_text.h"
#include "apps/cli/text/hang_text.h"
#include "apps/cli/text/names.h"
#include "apps/cli/text/table.h"
#include "apps/cli/text/time_text.h"
#include "base/printable.h"
#include "cluster/failure/failure.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

constexpr size_t kNoteWidth = 60;
// A word of these alone needs no quotes in a shell.
constexpr std::string_view kPlain =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";

std::string age(uint64_t since_unix_ms, int64_t now_unix_ms) {
  if (since_unix_ms == 0) return "-";
  const int64_t ms = std::max<int64_t>(0, now_unix_ms - static_cast<int64_t>(since_unix_ms));
  return format_seconds(static_cast<double>(ms) / 1000);
}

std::string exit_column(const JobStatus& job) {
  return has_ended(job.state) ? std::to_string(job.exit_code) : "-";
}

// "30%" of its steps or tasks, or how many steps where nobody knows of how many.
std::string progress_column(const JobStatus& job) {
  const std::optional<Progress> progress = progress_of(job);
  if (!progress) return "-";
  if (progress->total_steps <= 0) return str_cat("step ", progress->step);
  return str_cat(100 * progress->step / progress->total_steps, "%");
}

// "\x1b" for each byte.
std::string in_bytes(std::string_view text) {
  std::string escaped;
  for (const char byte : text) {
    std::array<char, 8> hex{};
    std::snprintf(hex.data(), hex.size(), "\\x%02x", static_cast<unsigned char>(byte));
    escaped += hex.data();
  }
  return escaped;
}

// As a shell takes it back, whatever is in it.
std::string quote_word(const std::string& word) {
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  const bool harmless = printable(word) == word;
  std::string quoted = harmless ? "'" : "$'";
  if (harmless) {
    for (const char letter : word) quoted += letter == '\'' ? "'\\''" : std::string(1, letter);
    return quoted + "'";
  }
  for (std::string_view rest(word); !rest.empty();) {
    const size_t bytes = std::max<size_t>(character_length(rest), 1);
    const std::string_view one = rest.substr(0, bytes);
    if (one == "'" || one == "\\") quoted += '\\';
    quoted += printable(one) == one ? std::string(one) : in_bytes(one);
    rest.remove_prefix(bytes);
  }
  return quoted + "'";
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
  return shorten(note, kNoteWidth);
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
  std::vector<std::string> words;
  words.reserve(command.size());
  for (const std::string& word : command) words.push_back(quote_word(word));
  return join(words, " ");
}

std::string render_jobs(const std::vector<JobStatus>& jobs, int64_t now_unix_ms, size_t width) {
  constexpr size_t kName = 1;
  std::vector<Row> rows;
  rows.reserve(jobs.size());
  for (const JobStatus& raw : jobs) {
    const JobStatus job = shown(raw);
    rows.push_back(
        {job.id, job.spec.name.empty() ? "-" : job.spec.name, std::string(to_string(job.state)),
         job.spec.array ? str_cat(job.spec.array->tasks, " tasks") : std::to_string(job.spec.ranks),
         progress_column(job), age(job.unix_ms_submitted, now_unix_ms), exit_column(job),
         job.reason.empty() ? quote_command(job.spec.command) : job.reason});
  }
  return render_table({"JOB", "NAME", "STATE", "RANKS", "DONE", "AGE", "EXIT", "REASON OR COMMAND"},
                      std::move(rows), kName, width);
}

std::string render_nodes(const std::vector<NodeInfo>& nodes, int64_t now_unix_ms) {
  std::vector<Row> rows;
  rows.reserve(nodes.size());
  for (const NodeInfo& raw : nodes) {
    const NodeInfo node = shown(raw);
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

std::string render_explanation(const Explanation& raw) {
  const Explanation explanation = shown(raw);
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
  if (explanation.more_ahead > 0) text += str_cat("  before  ", explanation.more_ahead, " more\n");
  if (explanation.nodes.empty()) return text;
  std::vector<Row> rows;
  rows.reserve(explanation.nodes.size());
  for (const ExplainedNode& node : explanation.nodes) {
    rows.push_back({node.id, std::to_string(node.slots), std::to_string(node.free), node.verdict});
  }
  if (explanation.more_nodes > 0)
    rows.push_back({"...", "", "", str_cat(explanation.more_nodes, " more")});
  return text + "\n" + render_table({"WORKER", "SLOTS", "FREE", "NOW"}, rows);
}

std::string render_event(const ClusterEvent& raw) {
  const ClusterEvent event = shown(raw);
  std::string number = std::to_string(event.number);
  if (number.size() < 6) number.insert(0, 6 - number.size(), ' ');
  std::string kind(to_string(event.kind));
  kind.resize(std::max<size_t>(kind.size(), 18), ' ');
  const std::string& whom = event.job.empty() ? event.worker : event.job;
  return str_cat(number, "  ", format_time(event.unix_ms), "  ", kind, "  ", whom,
                 whom.empty() ? "" : ": ", event.text, "\n");
}

std::string render_status(const JobStatus& raw, int64_t now_unix_ms) {
  const JobStatus job = shown(raw);
  std::string text = render_progress(job, std::nullopt, now_unix_ms) + "\n";
  if (!job.spec.name.empty()) text += "  name      " + job.spec.name + "\n";
  text += "  command   " + quote_command(job.spec.command) + "\n";
  if (!job.spec.working_directory.empty())
    text += "  folder    " + job.spec.working_directory + "\n";
  if (!job.reason.empty()) text += "  reason    " + job.reason + "\n";
  if (job.stopped_by) {
    text += str_cat("  stopped   by ", job.stopped_by->text(), ", ",
                    age(job.stopped_by->unix_ms, now_unix_ms), " ago\n");
  }
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
