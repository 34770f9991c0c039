// A worker on a thread of this process, with a master played by the test (fake_master.h).
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/thread.h"
#include "control/worker/worker.h"
#include "tests/control/fake_master.h"

namespace longhaul::testing {

class WorkerHost {
 public:
  explicit WorkerHost(const WorkerSettings& changes = {}) {
    WorkerSettings settings = changes;
    settings.master = master.address();
    settings.name = "gpu-a";
    settings.slots = 4;
    worker_ = std::make_unique<Worker>(settings);
    thread_ = Thread("worker", [this] { ended_ = worker_->run(); });
  }
  ~WorkerHost() { (void)end(true); }

  // Stops the worker; what its run() returned.
  Result<void> end(bool force = false) {
    worker_->shutdown(force);
    return join();
  }
  Result<void> join() {
    thread_.join();
    return *ended_;
  }

  bool registered(size_t times = 1) {
    return master.wait([times](const FakeMaster::Messages& messages) {
      size_t count = 0;
      for (const auto& message : messages) count += message.has_register_() ? 1 : 0;
      return count >= times;
    });
  }

  // Spawns ranks 0..n-1 of job j1, each a shell.
  void launch(const std::string& script, uint32_t ranks = 1) {
    master.send(launch_message(script, ranks));
  }
  static v1::MasterMessage launch_message(const std::string& script, uint32_t ranks) {
    v1::MasterMessage message;
    v1::Launch& launch = *message.mutable_launch();
    launch.set_job_id("j1");
    launch.set_generation(1);
    for (const char* word : {"sh", "-c", script.c_str()}) launch.mutable_spec()->add_command(word);
    launch.mutable_spec()->set_ranks(ranks);
    for (uint32_t rank = 0; rank < ranks; ++rank) launch.add_ranks(rank);
    launch.set_node_count(1);
    launch.set_master_addr("127.0.0.1");
    launch.set_master_port(29500);
    return message;
  }

  // What a master that has done with this launch answers to a registration.
  static v1::MasterMessage over(bool output_wanted) {
    v1::MasterMessage message;
    v1::Inventory& unknown = *message.mutable_registered()->add_unknown();
    unknown.set_job_id("j1");
    unknown.set_generation(1);
    unknown.set_output_wanted(output_wanted);
    return message;
  }

  void stop_ranks(uint32_t grace_ms, const std::string& reason) {
    v1::MasterMessage message;
    v1::StopRanks& stop = *message.mutable_stop_ranks();
    stop.set_job_id("j1");
    stop.set_generation(1);
    stop.set_grace_ms(grace_ms);
    stop.set_reason(reason);
    master.send(message);
  }

  // What the ranks of the job have printed, by offset, so that repeats do not count twice.
  static std::string output(const FakeMaster::Messages& messages, uint32_t rank = 0,
                            v1::OutputStream stream = v1::OUTPUT_STREAM_STDOUT) {
    std::string text;
    for (const auto& message : messages) {
      const v1::Output& output = message.rank_output().output();
      if (!message.has_rank_output() || output.rank() != rank || output.stream() != stream)
        continue;
      text.resize(std::max<size_t>(text.size(), output.offset() + output.data().size()));
      text.replace(output.offset(), output.data().size(), output.data());
    }
    return text;
  }
  // Waits until `text` has been printed.
  bool printed(const std::string& text, uint32_t rank = 0) {
    return master.wait([&](const FakeMaster::Messages& messages) {
      return output(messages, rank).find(text) != std::string::npos;
    });
  }

  static std::vector<v1::RankExited> exits(const FakeMaster::Messages& messages) {
    std::vector<v1::RankExited> all;
    for (const auto& message : messages) {
      if (message.rank_event().has_exited()) all.push_back(message.rank_event().exited());
    }
    return all;
  }
  // The first `count` exits; fewer when they do not come.
  std::vector<v1::RankExited> wait_exits(size_t count = 1) {
    (void)master.wait(
        [count](const FakeMaster::Messages& messages) { return exits(messages).size() >= count; });
    return exits(master.messages());
  }

  FakeMaster master;

 private:
  std::unique_ptr<Worker> worker_;
  std::optional<Result<void>> ended_;
  Thread thread_;
};

}  // namespace longhaul::testing
