#include "apps/cli/commands/hints.h"

#include <string_view>
#include <utility>

namespace longhaul::cli {
namespace {

struct Synonym {
  const char* ours;
  std::initializer_list<const char*> theirs;
};

const Synonym kCommands[] = {
    {"ps --watch", {"top", "watch", "htop"}},
    {"ps", {"list", "ls", "jobs", "squeue", "queue"}},
    {"stop", {"kill", "cancel", "scancel", "rm", "delete", "abort", "terminate"}},
    {"status", {"show", "describe", "info", "inspect", "get"}},
    {"logs", {"log", "tail", "output", "attach"}},
    {"run", {"submit", "exec", "start", "launch", "train", "torchrun", "srun", "sbatch", "mpirun"}},
    {"map", {"array", "parallel", "each", "foreach", "batch"}},
    {"nodes", {"workers", "hosts", "node", "worker", "sinfo", "cluster"}},
    {"explain", {"why", "debug"}},
    {"events", {"history", "journal", "event", "audit"}},
    {"drain", {"cordon", "uncordon"}},
    {"results", {"fetch", "collect", "gather", "download"}},
    {"--help", {"help"}},
    {"--version", {"version"}},
};

// torchrun's flags that have no place here, and why.
const std::pair<const char*, const char*> kFlags[] = {
    {"--node-rank",
     "leave it away, and start `longhaul run` once for all nodes: the master gives the workers "
     "their "
     "numbers (ranks find theirs in NODE_RANK)"},
    {"--master-addr",
     "leave it away: the master chooses it and ranks find it in MASTER_ADDR (--master names "
     "Longhaul's own master)"},
    {"--master-port",
     "leave it away: rank 0's worker picks a free port and ranks find it in MASTER_PORT"},
    {"--local-addr", "leave it away: `longhaul-worker --address` says how others reach a worker"},
    {"--role", "leave it away: all ranks have the role 'default' (ROLE_NAME)"},
    {"--monitor-interval", "leave it away: the end of a rank is seen at once"},
    {"--start-method", "leave it away: each rank is a process of its own"},
    {"--log-dir", "leave it away: the master keeps what ranks print, see `longhaul logs`"},
    {"--redirects", "leave it away: the master keeps what ranks print, see `longhaul logs`"},
    {"--tee", "leave it away: what ranks print is shown and kept, see `longhaul logs`"},
    {"--local-ranks-filter", "leave it away: `longhaul logs JOB --rank R` shows one rank"},
    {"--no-python", "leave it away: a program is run as it is"},
    {"--run-path", "leave it away, and run `python3 SCRIPT`"},
    {"--watch", "did you mean `longhaul ps --watch`, or -f?"},
    {"--gpus", "did you mean --gpus-per-rank, or with `map` --gpus-per-task?"},
    {"--mem", "did you mean --mem-per-rank, or with `map` --mem-per-task?"},
    {"--ntasks", "did you mean --ranks?"},
    {"--nodes", "did you mean --nnodes?"},
    {"--np", "did you mean --ranks?"},
    {"--timeout", "did you mean --time-limit?"},
    {"--lines", "did you mean --tail?"},
};

Hints make_hints() {
  Hints made;
  for (const Synonym& synonym : kCommands) {
    for (const char* theirs : synonym.theirs) {
      made[theirs] = str_cat("did you mean 'longhaul ", synonym.ours, "'?");
    }
  }
  for (const auto& [flag, words] : kFlags) made[flag] = words;
  return made;
}

}  // namespace

const Hints& hints() {
  static const Hints all = make_hints();
  return all;
}

}  // namespace longhaul::cli
