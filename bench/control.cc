// Simulated workers against a real master: what do its ledger, its owner thread and its streams
// take? One array, or one gang; no process is started for a task or a rank.
//
// usage: bench_control MASTER WORKERS SLOTS TASKS BATCH TASK_MS
//        bench_control MASTER gang WORKERS SLOTS joins|silent RANK_MS
// Prints lines "WHAT SECONDS", the seconds of CLOCK_MONOTONIC:
//   registered   all workers have a session
//   submitting   the call begins
//   submitted    the job is durable
//   returned     all workers have a session again (only after the master was away)
//   ended        the job has succeeded
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "base/log.h"
#include "bench/simulated_workers.h"
#include "control/client/job_client.h"
#include "longhaul/base/strings.h"

namespace {

using namespace longhaul;

void say(const char* what) {
  std::printf(
      "%s %.6f\n", what,
      std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count());
  std::fflush(stdout);
}

void sleep_a_little() {
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

// Follows the job until it ends, through as many lives of the master as there are.
bool succeeds(JobClient& client, const JobId& job) {
  for (;;) {
    const auto watch = client.watch(job, {});
    while (const std::optional<WatchEvent> event = watch->next()) {
      const auto* status = std::get_if<JobStatus>(&*event);
      if (status != nullptr && has_ended(status->state)) {
        return status->state == JobState::kSucceeded;
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) {
    std::fprintf(stderr,
                 "usage: bench_control MASTER WORKERS SLOTS TASKS BATCH TASK_MS\n"
                 "       bench_control MASTER gang WORKERS SLOTS joins|silent RANK_MS\n");
    return 64;
  }
  set_log_level(LogLevel::kError);  // a killed master is part of it
  const bool gang = std::string_view(argv[2]) == "gang";
  const int count = std::atoi(argv[gang ? 3 : 2]);
  const int slots = std::atoi(argv[gang ? 4 : 3]);
  bench::SimulatedWorkers workers({.master = argv[1],
                                   .count = count,
                                   .slots = slots,
                                   .task_time = milliseconds(std::atoi(argv[6])),
                                   .ranks_join = std::string_view(argv[5]) != "silent"});
  while (workers.connected() < count) sleep_a_little();
  say("registered");

  JobClient client(argv[1], {milliseconds(60'000)});
  JobSpec spec;
  spec.command = {"simulated"};
  spec.ranks = count * slots;
  if (!gang) {
    spec.array.emplace();
    spec.array->tasks = static_cast<TaskIndex>(std::atoll(argv[4]));
    spec.array->indices = str_cat("0-", spec.array->tasks - 1);
    spec.array->batch = std::atoi(argv[5]);
  }
  say("submitting");
  const Result<JobId> job = client.submit(spec);
  if (!job) {
    std::fprintf(stderr, "%s\n", job.failure().message.c_str());
    return 1;
  }
  say("submitted");

  std::atomic<bool> over{false};
  std::thread returns([&] {
    while (!over) {
      if (workers.connected() < count) {
        while (!over && workers.connected() < count) sleep_a_little();
        if (!over) say("returned");
      }
      sleep_a_little();
    }
  });
  const bool succeeded = succeeds(client, *job);
  say("ended");
  over = true;
  returns.join();
  return succeeded ? 0 : 1;
}
