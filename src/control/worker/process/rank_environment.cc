#include "control/worker/process/rank_environment.h"

#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "longhaul/agent/client/agent_client.h"

namespace longhaul {
namespace {

void set_place(Environment& env, const RankPlace& place) {
  const std::string rank = std::to_string(place.rank);
  const std::string world_size = std::to_string(place.world_size);
  env["RANK"] = rank;
  env["WORLD_SIZE"] = world_size;
  env["LOCAL_RANK"] = std::to_string(place.local_rank);
  env["LOCAL_WORLD_SIZE"] = std::to_string(place.local_world_size);
  env["GROUP_RANK"] = std::to_string(place.node_rank);
  env["GROUP_WORLD_SIZE"] = std::to_string(place.node_count);
  env["NODE_RANK"] = std::to_string(place.node_rank);
  env["ROLE_RANK"] = rank;
  env["ROLE_WORLD_SIZE"] = world_size;
  env["ROLE_NAME"] = "default";
  env["MASTER_ADDR"] = place.master_address;
  env["MASTER_PORT"] = std::to_string(place.master_port);
  env["TORCHELASTIC_RUN_ID"] = place.job_id;
  env["TORCHELASTIC_RESTART_COUNT"] = std::to_string(place.restarts);
  env["TORCHELASTIC_MAX_RESTARTS"] = std::to_string(place.max_restarts);
  // torchrun's agent may serve the store at MASTER_PORT; here rank 0 has to do it.
  env["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  if (!place.error_file.empty()) env["TORCHELASTIC_ERROR_FILE"] = place.error_file;
  // Defaults: what the worker's or the job's environment says counts first, here and below.
  env.try_emplace("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
  // Python then prints a traceback when it dies of a fatal signal.
  env.try_emplace("PYTHONFAULTHANDLER", "1");
}

void name_interface(Environment& env, const std::string& interface) {
  if (interface.empty()) return;
  env.try_emplace("GLOO_SOCKET_IFNAME", interface);
  env.try_emplace("TP_SOCKET_IFNAME", interface);
  env.try_emplace("NCCL_SOCKET_IFNAME", "=" + interface);  // else every name that begins so
}

void set_agent(Environment& env, const RankPlace& place) {
  env["LONGHAUL_JOB_ID"] = place.job_id;
  env["LONGHAUL_TASK_ID"] = std::to_string(place.rank);  // a gang's tasks are its ranks
  env["LONGHAUL_GENERATION"] = std::to_string(place.generation);
  env["LONGHAUL_ATTEMPT"] = std::to_string(place.restarts + 1);
  env["LONGHAUL_HOST_ADDRESS"] = place.host_address;
  env[AgentClient::kAddressVariable] = place.agent_address;
  env[AgentClient::kTokenVariable] = place.agent_token;
}

}  // namespace

Environment rank_environment(const Environment& worker, const Environment& job,
                             const RankPlace& place, int cores) {
  Environment env = worker;
  for (const auto& [name, value] : job) env[name] = value;
  set_place(env, place);
  set_agent(env, place);
  name_interface(env, place.interface);
  if (!place.gpus.empty()) grant_gpus(env, place.gpus);
  if (place.local_world_size > 1) {
    env.try_emplace("OMP_NUM_THREADS", std::to_string(std::max(1, cores / place.local_world_size)));
  }
  return env;
}

void grant_gpus(Environment& env, const std::string& visible) {
  env["CUDA_VISIBLE_DEVICES"] = visible;
  env["LONGHAUL_GPUS"] = visible;
}

Environment own_environment() {
  Environment env;
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (equals != std::string_view::npos) {
      env.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  return env;
}

std::string search_path_of(const Environment& environment) {
  const auto path = environment.find("PATH");
  return path == environment.end() ? "/usr/local/bin:/usr/bin:/bin" : path->second;
}

std::vector<std::string> to_strings(const Environment& environment) {
  std::vector<std::string> strings;
  for (const auto& [name, value] : environment) strings.push_back(name + "=" + value);
  return strings;
}

}  // namespace longhaul
