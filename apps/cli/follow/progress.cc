#include "apps/cli/follow/progress.h"

#include <algorithm>
#include <cmath>

#include "base/printable.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

constexpr double kWindowSeconds = 30;
constexpr double kPlainSeconds = 10;

// "812", "12.3k", "1.25M".
std::string format_count(double count) {
  if (count < 999.5) return format_fixed(count, 0);
  if (count < 999'500) return format_general(count / 1e3, 3) + "k";
  return format_general(count / 1e6, 3) + "M";
}

std::string ranks_in_words(const JobStatus& job) {
  const auto joined = std::count_if(job.ranks.begin(), job.ranks.end(), [](const RankRecord& rank) {
    return rank.state == RankState::kJoined || rank.state == RankState::kLeft;
  });
  const auto exited = std::count_if(job.ranks.begin(), job.ranks.end(), [](const RankRecord& rank) {
    return rank.state == RankState::kExited || rank.state == RankState::kLost;
  });
  std::string text = str_cat(job.spec.ranks, job.spec.ranks == 1 ? " rank" : " ranks");
  if (joined > 0) text += str_cat(", ", joined, " joined");
  if (exited > 0) text += str_cat(", ", exited, " ended");
  return text;
}

void append_steps(const Progress& progress, std::vector<std::string>* parts) {
  if (progress.total_steps > 0) {
    parts->push_back(str_cat("step ", progress.step, "/", progress.total_steps, " ",
                             100 * progress.step / progress.total_steps, "%"));
  } else {
    parts->push_back(str_cat("step ", progress.step));
  }
}

void append_progress(const Progress& progress, std::vector<std::string>* parts) {
  append_steps(progress, parts);
  if (progress.loss) parts->push_back("loss " + format_general(*progress.loss, 4));
  if (progress.tokens_per_second > 0) {
    parts->push_back(format_count(progress.tokens_per_second) + " tok/s");
  }
  parts->push_back(str_cat("comm ", format_fixed(100 * progress.communication_share, 0), "%"));
  if (progress.bytes_raw > 0) {
    std::string bytes =
        str_cat(format_bytes(progress.bytes_raw), " -> ", format_bytes(progress.bytes_sent));
    if (progress.bytes_sent > 0) {
      const double ratio =
          static_cast<double>(progress.bytes_raw) / static_cast<double>(progress.bytes_sent);
      bytes += str_cat(" (", format_fixed(ratio, 2), "x)");
    }
    parts->push_back(bytes);
  }
}

void append_tasks(const JobStatus& job, std::vector<std::string>* parts) {
  const TaskCounts& counts = job.array->counts;
  const TaskIndex all = job.spec.array ? job.spec.array->tasks : 0;
  const TaskIndex done = counts.in(TaskState::kDone);
  parts->push_back(str_cat(done, "/", all, all == 1 ? " task" : " tasks",
                           all > 0 ? str_cat(" ", uint64_t{100} * done / all, "%") : ""));
  constexpr std::pair<TaskState, const char*> kOthers[] = {
      {TaskState::kLeased, " running"},
      {TaskState::kBackingOff, " to be tried again"},
      {TaskState::kQuarantined, " given up"},
      {TaskState::kCancelled, " cancelled"}};
  for (const auto& [state, words] : kOthers) {
    if (counts.in(state) > 0) parts->push_back(str_cat(counts.in(state), words));
  }
}

std::string head(const JobStatus& job, int64_t now_unix_ms) {
  std::string text = str_cat(printable(job.id), " ", to_string(job.state));
  const auto start = static_cast<int64_t>(job.unix_ms_started);
  const int64_t end = job.unix_ms_ended > 0 ? static_cast<int64_t>(job.unix_ms_ended) : now_unix_ms;
  if (start > 0 && end >= start) {
    text += " " + format_seconds(static_cast<double>(end - start) / 1000);
  }
  return text;
}

}  // namespace

std::optional<Progress> summarize(const std::vector<RankRecord>& ranks) {
  Progress sum;
  double loss = 0;
  int losses = 0;
  for (const RankRecord& rank : ranks) {
    if (!rank.progress) continue;
    const RankProgress& one = *rank.progress;
    sum.step = sum.ranks_reporting == 0 ? one.step : std::min(sum.step, one.step);
    sum.total_steps = std::max(sum.total_steps, one.total_steps);
    sum.tokens_per_second += one.tokens_per_second;
    sum.communication_share += one.communication_share;
    sum.bytes_raw += one.bytes_raw;
    sum.bytes_sent += one.bytes_sent;
    ++sum.ranks_reporting;
    if (one.has_loss) {
      loss += one.loss;
      ++losses;
    }
  }
  if (sum.ranks_reporting == 0) return std::nullopt;
  sum.communication_share /= sum.ranks_reporting;
  if (losses > 0) sum.loss = loss / losses;
  return sum;
}

std::optional<Progress> progress_of(const JobStatus& job) {
  if (!job.array) return summarize(job.ranks);
  const TaskCounts& counts = job.array->counts;
  Progress progress;
  progress.step = counts.in(TaskState::kDone) + counts.in(TaskState::kQuarantined);
  progress.total_steps = job.spec.array ? job.spec.array->tasks : 0;
  return progress;
}

void TimeLeft::observe(const Progress& progress, Instant now) {
  // A gang that was formed again goes on from an earlier step. Nothing is learnt until it is where
  // it was.
  if (!samples_.empty() && progress.step <= samples_.back().step) return;
  samples_.push_back({now, progress.step});
  while (samples_.size() > 2 && seconds_between(samples_.front().at, now) > kWindowSeconds) {
    samples_.pop_front();
  }
}

std::optional<double> TimeLeft::seconds(const Progress& progress) const {
  if (progress.total_steps <= 0 || samples_.size() < 2) return std::nullopt;
  const Sample& first = samples_.front();
  const Sample& last = samples_.back();
  const double per_step =
      seconds_between(first.at, last.at) / static_cast<double>(last.step - first.step);
  return per_step * static_cast<double>(std::max<int64_t>(0, progress.total_steps - last.step));
}

std::string render_progress(const JobStatus& job, const std::optional<double>& seconds_left,
                            int64_t now_unix_ms) {
  std::vector<std::string> parts = {head(job, now_unix_ms)};
  const std::optional<Progress> progress = summarize(job.ranks);
  if (job.state == JobState::kPending && !job.reason.empty()) {
    parts.push_back(printable(job.reason));
  } else if (job.array) {
    append_tasks(job, &parts);
    if (seconds_left && !has_ended(job.state)) {
      parts.push_back(format_seconds(*seconds_left) + " left");
    }
  } else if (progress) {
    append_progress(*progress, &parts);
    if (seconds_left) parts.push_back(format_seconds(*seconds_left) + " left");
  } else {
    parts.push_back(ranks_in_words(job));
  }
  return join(parts, " | ");
}

std::string fit_line(const std::string& line, size_t width) {
  if (display_width(line) <= width) return line;
  const size_t bar = line.rfind(" | ", width);
  // Not at a bar in the first half of the line: that would cut off too much.
  if (bar != std::string::npos && bar > 0 && bar + 3 > width / 2) return line.substr(0, bar);
  size_t end = 0;
  for (size_t column = 0; column < width; ++column) {
    end += std::max<size_t>(character_length(std::string_view(line).substr(end)), 1);
  }
  return line.substr(0, end);
}

bool PlainPacer::due(const std::optional<Progress>& progress, Instant now) {
  if (!progress) return false;
  const int64_t tenth =
      progress->total_steps > 0 ? 10 * progress->step / progress->total_steps : last_tenth_;
  // Nothing has been done yet when the first look comes.
  const bool due = last_
                       ? progress->step != last_step_ &&
                             (tenth != last_tenth_ || seconds_between(*last_, now) >= kPlainSeconds)
                       : tenth > 0;
  if (due || !last_) {
    last_ = now;
    last_step_ = progress->step;
    last_tenth_ = tenth;
  }
  return due;
}

}  // namespace longhaul::cli
