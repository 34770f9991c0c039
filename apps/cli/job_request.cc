#include "apps/cli/job_request.h"

#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

Result<void> add_env(const std::string& text, const ReadEnvironment& environment, JobSpec* spec) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  if (name.empty()) {
    return Failure{ErrorKind::kInvalid, "--env takes NAME=VALUE or NAME, not '" + text + "'"};
  }
  if (equals != std::string::npos) {
    spec->env[name] = text.substr(equals + 1);
    return {};
  }
  const char* value = environment(name);
  if (value == nullptr) {
    return Failure{ErrorKind::kInvalid, "--env " + name + ": no such variable is set here"};
  }
  spec->env[name] = value;
  return {};
}

Result<void> set_ranks(const JobRequest& request, JobSpec* spec) {
  if (request.ranks && request.ranks_per_node) {
    return Failure{ErrorKind::kInvalid, "--ranks and --nproc-per-node exclude each other"};
  }
  if (request.nodes && !request.ranks_per_node) {
    return Failure{ErrorKind::kInvalid, "--nnodes needs --nproc-per-node"};
  }
  spec->ranks = request.ranks_per_node ? *request.ranks_per_node * request.nodes.value_or(1)
                                       : request.ranks.value_or(1);
  spec->max_ranks_per_worker = request.ranks_per_node.value_or(0);
  return {};
}

}  // namespace

Result<JobSpec> make_job_spec(const JobRequest& request, const std::filesystem::path& here,
                              const ReadEnvironment& environment) {
  if (request.command.empty()) {
    return Failure{ErrorKind::kInvalid, "no program given: longhaul run --ranks 4 -- ./train"};
  }
  JobSpec spec;
  spec.name = request.name;
  spec.command = request.command;
  std::string& program = spec.command[0];
  if (program.find('/') != std::string::npos)
    program = (here / program).lexically_normal().string();
  spec.working_directory =
      (request.chdir.empty() ? here : (here / request.chdir).lexically_normal()).string();
  spec.fail_when_full = request.fail_when_full;
  spec.join_timeout = request.join_timeout;
  spec.grace = request.grace;
  if (const Result<void> set = set_ranks(request, &spec); !set) return set.failure();
  for (const std::string& text : request.env) {
    if (const Result<void> added = add_env(text, environment, &spec); !added) {
      return added.failure();
    }
  }
  return spec;
}

}  // namespace longhaul::cli
