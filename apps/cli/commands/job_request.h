// What `longhaul run` was asked for becomes the job that is submitted.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/jobs/job.h"
#include "longhaul/base/result.h"

namespace longhaul::cli {

struct JobRequest {
  std::string name;
  std::optional<int> ranks;
  std::optional<int> ranks_per_node;  // torchrun's --nproc-per-node
  std::string ranks_per_node_of;      // its "auto", "gpu" or "cpu", until somebody counted them
  std::string nodes;                  // torchrun's --nnodes: "N" or "MIN:MAX"
  // torchrun's --rdzv-*: the rendezvous is the master's.
  std::string rdzv_id;                   // the job's name, unless it has another
  std::string rdzv_conf;                 // "join_timeout=600,...": seconds
  std::optional<int> max_node_restarts;  // default: kNodeRestarts when there are restarts at all
  std::optional<int> max_oom_restarts;   // default: kOomRestarts when there are restarts at all
  std::optional<int> max_preemptions;    // default: kPreemptions when there are restarts at all
  std::string exported = "none";  // of the caller's environment: "all", "none" or "NAME,NAME"
  std::vector<std::string> env;   // "NAME=VALUE", or "NAME" to pass the caller's on; goes before
  std::string chdir;
  milliseconds join_timeout{0};
  bool spread = false;
  std::vector<std::string> command;
  JobSpec spec;  // as its flags say it; what is above goes into it
};

// Lost hosts are nobody's bug: a job that may restart survives more of them.
constexpr int kNodeRestarts = 10;
// More tries on the same hosts hardly help.
constexpr int kOomRestarts = 1;
constexpr int kPreemptions = 1000;

// The caller's environment.
using Variables = std::map<std::string, std::string>;
Variables own_variables();

// A relative program with a slash in it, and a relative --chdir, are taken from `here`. Errors:
// kInvalid.
Result<JobSpec> make_job_spec(const JobRequest& request, const std::filesystem::path& here,
                              const Variables& environment);

// The most nodes that --nnodes asks for. Errors: kInvalid.
Result<int> most_nodes(const JobRequest& request);

}  // namespace longhaul::cli
