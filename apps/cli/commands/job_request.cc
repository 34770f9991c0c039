#include "apps/cli/commands/job_request.h"

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <string_view>

#include "base/printable.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

// Not passed on by --export all: variables that describe the caller's shell, and those that tell a
// rank or a task who it is. A command that is run inside a rank would else hand the rank's own on.
constexpr std::string_view kNotExported[] = {
    "_",
    "OLDPWD",
    "PWD",
    "SHLVL",
    "LONGHAUL_AGENT",
    "LONGHAUL_AGENT_TOKEN",
    "LONGHAUL_ATTEMPT",
    "LONGHAUL_GENERATION",
    "LONGHAUL_GPUS",
    "LONGHAUL_HOST_ADDRESS",
    "LONGHAUL_INPUT",
    "LONGHAUL_JOB_ID",
    "LONGHAUL_RESULT",
    "LONGHAUL_TASK_ID",
    "LONGHAUL_WARM",
};

Result<void> add_variable(const std::string& flag, const std::string& name,
                          const Variables& environment, JobSpec* spec) {
  const auto found = environment.find(name);
  if (found == environment.end()) {
    return Failure{ErrorKind::kInvalid, flag + " " + name + ": no such variable is set here"};
  }
  spec->env[name] = found->second;
  return {};
}

Result<void> add_exported(const std::string& exported, const Variables& environment,
                          JobSpec* spec) {
  if (exported == "none") return {};
  if (exported != "all") {
    for (const std::string& name : split(exported, ',')) {
      const Result<void> added = add_variable("--export", name, environment, spec);
      if (!added) return added;
    }
    return {};
  }
  for (const auto& [name, value] : environment) {
    // A name that is no UTF-8 cannot be sent.
    const bool ours = std::ranges::find(kNotExported, name) != std::end(kNotExported);
    if (!ours && is_utf8(name)) spec->env[name] = value;
  }
  return {};
}

Result<void> add_env(const std::string& text, const Variables& environment, JobSpec* spec) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  if (name.empty()) {
    return Failure{ErrorKind::kInvalid, "--env takes NAME=VALUE or NAME, not '" + text + "'"};
  }
  if (equals != std::string::npos) {
    spec->env[name] = text.substr(equals + 1);
    return {};
  }
  return add_variable("--env", name, environment, spec);
}

struct NodeRange {
  int min = 1;
  int max = 1;
};

// "4", or "2:4".
Result<NodeRange> parse_nodes(const std::string& text) {
  const size_t colon = text.find(':');
  const std::string first = text.substr(0, colon);
  const std::string last = colon == std::string::npos ? first : text.substr(colon + 1);
  const auto number = [](const std::string& digits) {
    const bool plain = !digits.empty() && digits.size() <= 5 &&
                       digits.find_first_not_of("0123456789") == std::string::npos;
    return plain ? std::stoi(digits) : 0;
  };
  const NodeRange range{number(first), number(last)};
  if (range.min < 1 || range.max < range.min) {
    return Failure{ErrorKind::kInvalid,
                   "--nnodes takes N or MIN:MAX, 1 <= MIN <= MAX, not '" + text + "'"};
  }
  return range;
}

Result<void> set_ranks(const JobRequest& request, JobSpec* spec) {
  if (request.ranks && request.ranks_per_node) {
    return Failure{ErrorKind::kInvalid, "--ranks and --nproc-per-node exclude each other"};
  }
  if (!request.nodes.empty() && !request.ranks_per_node) {
    return Failure{ErrorKind::kInvalid, "--nnodes needs --nproc-per-node"};
  }
  spec->ranks = request.ranks.value_or(1);
  if (!request.ranks_per_node) return {};
  const Result<NodeRange> nodes = parse_nodes(request.nodes.empty() ? "1" : request.nodes);
  if (!nodes) return nodes.failure();
  spec->ranks = *request.ranks_per_node * nodes->max;
  spec->max_ranks_per_worker = *request.ranks_per_node;
  if (nodes->min < nodes->max) spec->min_nodes = nodes->min;
  return {};
}

// --join-timeout, or that of torchrun's --rdzv-conf; its other keys mean nothing here.
Result<milliseconds> join_timeout_of(const JobRequest& request) {
  milliseconds found = request.join_timeout;
  for (size_t at = 0; at < request.rdzv_conf.size();) {
    const size_t comma = std::min(request.rdzv_conf.find(',', at), request.rdzv_conf.size());
    const std::string pair = request.rdzv_conf.substr(at, comma - at);
    at = comma + 1;
    const size_t equals = pair.find('=');
    if (equals == std::string::npos) {
      return Failure{ErrorKind::kInvalid, "--rdzv-conf takes KEY=VALUE,..., not '" + pair + "'"};
    }
    const std::string value = pair.substr(equals + 1);
    if (pair.substr(0, equals) != "join_timeout" || request.join_timeout.count() > 0) continue;
    if (value.empty() || value.size() > 6 ||
        value.find_first_not_of("0123456789") != std::string::npos) {
      return Failure{ErrorKind::kInvalid,
                     "--rdzv-conf join_timeout: '" + value + "' are no seconds"};
    }
    found = std::chrono::seconds(std::stoi(value));
  }
  return found;
}

// A script alone is no program, unless it lies in PATH; the worker would say so later.
std::optional<Failure> why_no_program(const std::vector<std::string>& command,
                                      const Variables& environment) {
  const std::string& program = command.front();
  if (!program.ends_with(".py") || program.find('/') != std::string::npos) return std::nullopt;
  const auto path = environment.find("PATH");
  for (const std::string& folder : split(path == environment.end() ? "" : path->second, ':')) {
    std::error_code ignored;
    if (std::filesystem::exists(std::filesystem::path(folder) / program, ignored)) {
      return std::nullopt;
    }
  }
  return Failure{ErrorKind::kInvalid,
                 "'" + program + "' is a script, and in no folder of PATH: did you mean `python3 " +
                     program + "`, or ./" + program + "?"};
}

}  // namespace

Variables own_variables() {
  Variables variables;
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

Result<int> most_nodes(const JobRequest& request) {
  const Result<NodeRange> range = parse_nodes(request.nodes.empty() ? "1" : request.nodes);
  if (!range) return range.failure();
  return range->max;
}

Result<JobSpec> make_job_spec(const JobRequest& request, const std::filesystem::path& here,
                              const Variables& environment) {
  if (request.command.empty()) {
    return Failure{ErrorKind::kInvalid, "no program given: longhaul run --ranks 4 -- ./train"};
  }
  if (const auto script = why_no_program(request.command, environment)) return *script;
  JobSpec spec = request.spec;
  spec.name = request.name.empty() ? request.rdzv_id : request.name;
  spec.command = request.command;
  std::string& program = spec.command[0];
  if (program.find('/') != std::string::npos)
    program = (here / program).lexically_normal().string();
  spec.working_directory =
      (request.chdir.empty() ? here : (here / request.chdir).lexically_normal()).string();
  const Result<milliseconds> join_timeout = join_timeout_of(request);
  if (!join_timeout) return join_timeout.failure();
  spec.join_timeout = *join_timeout;
  const bool restarts = spec.max_restarts > 0;
  spec.max_node_restarts = request.max_node_restarts.value_or(restarts ? kNodeRestarts : 0);
  spec.max_oom_restarts = request.max_oom_restarts.value_or(restarts ? kOomRestarts : 0);
  spec.max_preemptions = request.max_preemptions.value_or(restarts ? kPreemptions : 0);
  spec.placement = request.spread ? PlacementStyle::kSpread : PlacementStyle::kPack;
  if (const Result<void> set = set_ranks(request, &spec); !set) return set.failure();
  if (const Result<void> added = add_exported(request.exported, environment, &spec); !added) {
    return added.failure();
  }
  for (const std::string& text : request.env) {
    if (const Result<void> added = add_env(text, environment, &spec); !added) {
      return added.failure();
    }
  }
  return spec;
}

}  // namespace longhaul::cli
