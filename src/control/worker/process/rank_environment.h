// The environment that a rank starts with: the worker's own, the job's on top, and then what tells
// the rank its place, under torchrun's names (so that any program that reads those runs) and our
// own. Source of the names: torch/distributed/elastic/agent/server/local_elastic_agent.py.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace longhaul {

using Environment = std::map<std::string, std::string>;

struct RankPlace {
  std::string job_id;
  uint64_t generation = 0;
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_world_size = 1;
  int node_rank = 0;
  int node_count = 1;
  int restarts = 0;
  int max_restarts = 0;
  std::string master_address;  // torchrun's MASTER_ADDR: where rank 0 is
  int master_port = 0;
  std::string host_address;
  std::string interface;      // that has host_address, as "eth0"; empty: none, or more than one
  std::string agent_address;  // "unix:/path"
  std::string agent_token;
  std::string gpus;        // granted to this rank alone, as CUDA_VISIBLE_DEVICES; empty: none
  std::string error_file;  // where torch.distributed.elastic's record() writes an exception
};

// The network interface that ranks in Python use is the one with host_address, unless the worker's
// or the job's environment names another: PyTorch would take the one that the host's name resolves
// to, which on Debian is loopback (127.0.1.1). Set for Gloo, TensorPipe and NCCL. `cores`: what
// this host lets the worker use. With several ranks on a host and OMP_NUM_THREADS unset, each gets
// its share of them (torchrun gives 1).
Environment rank_environment(const Environment& worker, const Environment& job,
                             const RankPlace& place, int cores);

// The process sees these GPUs alone. LONGHAUL_GPUS says the same, and that they were granted.
void grant_gpus(Environment& env, const std::string& visible);

// This process's environment.
Environment own_environment();

// Its PATH, or the usual one when it has none.
std::string search_path_of(const Environment& environment);

// "NAME=value" each, sorted by name.
std::vector<std::string> to_strings(const Environment& environment);

}  // namespace longhaul
