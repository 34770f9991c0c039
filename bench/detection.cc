// What clients of a master see, and when: every change of a worker's state, every rank's exit and
// every end of the jobs that it is told to watch. One line each, with the monotonic clock, which
// all processes of a machine share:
//
//   node NAME ready|unreachable|lost NANOSECONDS
//   exit JOB RANK CODE NANOSECONDS
//   end JOB NANOSECONDS
//
// Workers' states are asked for every 2 ms; jobs are watched by a stream each.
//
// usage: bench_detection MASTER    (then ids of jobs on stdin; its end ends the program)
#include <atomic>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/thread.h"
#include "control/client/job_client.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"

namespace {

using namespace longhaul;

constexpr milliseconds kPause{2};

class Printer {
 public:
  template <typename... Parts>
  void line(const Parts&... parts) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const std::string text =
        str_cat(parts..., " ", std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
    MutexLock lock(mutex_);
    std::puts(text.c_str());
    std::fflush(stdout);
  }

 private:
  Mutex mutex_;
};

void watch_nodes(JobClient& client, Printer& printer, const std::atomic<bool>& over) {
  std::map<WorkerId, WorkerState> seen;
  while (!over) {
    const Result<std::vector<NodeInfo>> nodes = client.nodes();
    if (nodes) {
      for (const NodeInfo& node : *nodes) {
        const auto known = seen.find(node.id);
        if (known != seen.end() && known->second == node.state) continue;
        seen[node.id] = node.state;
        printer.line("node ", node.id, " ", to_string(node.state));
      }
    }
    std::this_thread::sleep_for(kPause);
  }
}

void watch_job(JobWatch& watch, const JobId& job, Printer& printer) {
  std::set<Rank> exited;
  while (const std::optional<WatchEvent> event = watch.next()) {
    if (const auto* status = std::get_if<JobStatus>(&*event)) {
      for (const RankRecord& rank : status->ranks) {
        if (rank.exit && exited.insert(rank.rank).second) {
          printer.line("exit ", job, " ", rank.rank, " ", rank.exit->exit_code);
        }
      }
    } else if (std::holds_alternative<WatchEnded>(*event)) {
      printer.line("end ", job);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: bench_detection MASTER\n", stderr);
    return 64;
  }
  JobClient client(argv[1]);
  Printer printer;
  std::atomic<bool> over = false;
  Thread nodes("nodes", [&] { watch_nodes(client, printer, over); });
  std::vector<std::pair<std::unique_ptr<JobWatch>, Thread>> jobs;
  for (std::string job; std::getline(std::cin, job);) {
    std::unique_ptr<JobWatch> watch = client.watch(job, {});
    JobWatch* const stream = watch.get();
    jobs.emplace_back(std::move(watch),
                      Thread("job", [&printer, stream, job] { watch_job(*stream, job, printer); }));
  }
  over = true;
  for (auto& [watch, thread] : jobs) watch->cancel();
  for (auto& [watch, thread] : jobs) thread.join();
  nodes.join();
  return 0;
}
