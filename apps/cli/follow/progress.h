// A job's progress in one line: what the ranks report, summed up, and how long it will still take.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "cluster/jobs/job.h"
#include "longhaul/base/clock.h"

namespace longhaul::cli {

// What all ranks together have done.
struct Progress {
  int ranks_reporting = 0;
  int64_t step = 0;                // of the slowest rank that reports
  int64_t total_steps = 0;         // 0: unknown
  std::optional<double> loss;      // mean over the ranks that tell one
  double tokens_per_second = 0;    // summed over ranks; 0: unknown
  double communication_share = 0;  // mean over ranks, 0..1
  uint64_t bytes_raw = 0;          // summed over ranks
  uint64_t bytes_sent = 0;
};

// nullopt when no rank has reported yet.
std::optional<Progress> summarize(const std::vector<RankRecord>& ranks);
// The same of a job; an array's steps are its tasks.
std::optional<Progress> progress_of(const JobStatus& job);

// Estimates the time left from the steps of the last half minute, so that a slow start is
// forgotten.
class TimeLeft {
 public:
  void observe(const Progress& progress, Instant now);
  // Seconds; nullopt while it is unknown.
  std::optional<double> seconds(const Progress& progress) const;

 private:
  struct Sample {
    Instant at;
    int64_t step;
  };
  std::deque<Sample> samples_;
};

// "j3 running 1m05s | step 120/400 30% | loss 2.314 | 12.3k tok/s | comm 23% | 1.20 GB -> 950 MB
// (1.26x) | 3m20s left". `now_unix_ms` counts from the job's start.
std::string render_progress(const JobStatus& job, const std::optional<double>& seconds_left,
                            int64_t now_unix_ms);

// The line cut to a terminal's width, at a "|" where one is near.
std::string fit_line(const std::string& line, size_t width);

// Decides when a log that is not a terminal gets a line: at each tenth of the steps, and every 10 s
// while steps are made.
class PlainPacer {
 public:
  bool due(const std::optional<Progress>& progress, Instant now);

 private:
  std::optional<Instant> last_;
  int64_t last_step_ = 0;
  int64_t last_tenth_ = 0;
};

}  // namespace longhaul::cli
