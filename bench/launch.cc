// How soon do ranks run after a job was submitted, and again after one of them was killed? Real
// daemons, real processes: the rank program (bench/stamp.cc) prints when its main() began.
//
// usage: bench_launch MASTER STAMP start RANKS JOBS
//        bench_launch MASTER STAMP reform RANKS JOBS
// start: seconds from the call of submit to the last rank's main(), a line each job.
// reform: seconds from kill -9 of a rank to the last main() of the next attempt, a line each job.
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "control/client/job_client.h"

namespace {

using namespace longhaul;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Ranks of the attempts seen in a job's output.
class Stamps {
 public:
  void add(const OutputPiece& piece) {
    std::string& text = text_[piece.generation][piece.rank];
    text += piece.data;
  }
  // When the last of `ranks` ranks began, once all have said so.
  std::optional<double> last(Generation generation, int ranks) const {
    const auto attempt = text_.find(generation);
    if (attempt == text_.end() || attempt->second.size() < static_cast<size_t>(ranks)) return {};
    double latest = 0;
    for (const auto& [rank, text] : attempt->second) {
      if (text.empty() || text.back() != '\n') return {};
      latest = std::max(latest, std::strtod(text.c_str(), nullptr));
    }
    return latest;
  }

 private:
  std::map<Generation, std::map<Rank, std::string>> text_;
};

JobSpec gang(const char* stamp, int ranks) {
  JobSpec spec;
  spec.command = {stamp};
  spec.ranks = ranks;
  return spec;
}

// Runs a job and shows `seen` what its ranks have said so far, until the job ends or `seen` says
// that it has seen enough. False: the job was not taken.
template <typename Seen>
bool follow(JobClient& client, const JobSpec& spec, Seen seen) {
  const Result<JobId> job = client.submit(spec);
  if (!job) return false;
  WatchOptions options;
  options.output = true;
  const auto watch = client.watch(*job, options);
  Stamps stamps;
  while (const std::optional<WatchEvent> event = watch->next()) {
    if (const auto* piece = std::get_if<OutputPiece>(&*event)) stamps.add(*piece);
    if (!seen(*job, stamps)) break;
  }
  return true;
}

// Seconds from the call of submit to the last main(); less than 0: it failed.
double start_once(JobClient& client, const JobSpec& spec) {
  const double begun = now();
  std::optional<double> last;
  follow(client, spec, [&](const JobId&, const Stamps& stamps) {
    last = stamps.last(1, spec.ranks);
    return true;
  });
  return last ? *last - begun : -1;
}

// Seconds from kill -9 of a rank to the last main() of the next attempt.
double reform_once(JobClient& client, JobSpec spec) {
  spec.command.emplace_back("wait");
  spec.max_restarts = 1;
  double killed = 0;
  std::optional<double> last;
  follow(client, spec, [&](const JobId& job, const Stamps& stamps) {
    if (killed == 0 && stamps.last(1, spec.ranks)) {
      const Result<JobStatus> status = client.get(job);
      if (!status) return false;
      killed = now();
      ::kill(static_cast<pid_t>(status->ranks.at(static_cast<size_t>(spec.ranks / 3)).pid),
             SIGKILL);
    }
    last = stamps.last(2, spec.ranks);
    if (last) static_cast<void>(client.stop(job, {.force = true, .by = {}}));
    return !last;
  });
  return last ? *last - killed : -1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc == 6 ? argv[3] : "";
  if (what != "start" && what != "reform") {
    std::fprintf(stderr, "usage: bench_launch MASTER STAMP start|reform RANKS JOBS\n");
    return 64;
  }
  JobClient client(argv[1], {milliseconds(60'000)});
  const JobSpec spec = gang(argv[2], std::atoi(argv[4]));
  for (int i = 0; i < std::atoi(argv[5]); ++i) {
    const double seconds = what == "start" ? start_once(client, spec) : reform_once(client, spec);
    if (seconds < 0) {
      std::fprintf(stderr, "bench_launch: a job did not do what it should\n");
      return 1;
    }
    std::printf("%.6f\n", seconds);
  }
}
