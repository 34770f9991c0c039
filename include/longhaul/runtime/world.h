// Where a training program starts: init() finds out who this process is and connects it to the
// others.
//
//   longhaul::World world = longhaul::init();
//   model->to(world.device());
//   longhaul::DistributedDataParallel ddp(world, model);
//
// Asked in this order: the worker that launched it (LONGHAUL_AGENT), torchrun's environment names
// (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT), and without either it
// is a world of one.
//
// init() also installs a std::terminate handler: an exception that escapes main() is told to the
// worker first, so that it knows the culprit from its victims. A longhaul::Error then ends the
// process with "rank 2: longhaul::CollectiveError: ..." on stderr and exit code 1 (no signal, no
// core); any other exception goes on to the handler that was there before. SIGPIPE is
// ignored from then on, as in every Python program, unless the program handles it.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "longhaul/base/clock.h"
#include "longhaul/collectives/communicator.h"
#include "longhaul/membership/ids.h"

namespace longhaul {

struct InitOptions {
  // Unset: the GPU with this rank's local number where there is one and Longhaul was built with
  // NCCL, else the CPU.
  std::optional<c10::Device> device = std::nullopt;
  // For meeting the other ranks and for each collective afterwards.
  milliseconds timeout = std::chrono::minutes(5);
  // Address of this host that the other ranks can reach. Empty: found out.
  std::string host_address = {};
};

// What a program tells about its work, for `longhaul status`. All fields are optional.
struct TrainingProgress {
  int64_t step = 0;
  int64_t total_steps = 0;
  std::optional<double> loss = std::nullopt;
  double tokens_per_second = 0;  // of this rank's own input
  std::string codec = {};        // as CodecSpec::str() gives it
};

// Thread safety: accessors, report() and should_stop() from any thread; barrier() from the thread
// that trains.
class World {
 public:
  // In order: sends the last report and says goodbye. While an exception passes through: reports a
  // fault instead.
  ~World();
  World(World&&) noexcept;
  World& operator=(World&&) noexcept;

  Rank rank() const;
  int size() const;
  int local_rank() const;  // index among the ranks on this host
  int local_size() const;
  c10::Device device() const;
  Generation generation() const;

  const c10::intrusive_ptr<c10d::ProcessGroup>& process_group() const;
  const std::shared_ptr<Communicator>& communicator() const;
  operator std::shared_ptr<Communicator>() const { return communicator(); }

  // Waits for all ranks. Errors: CollectiveError.
  void barrier();

  // Cheap: keeps the values; a thread tells the worker about once a second, with the communicator's
  // counts, also when nothing new was reported (its sign of life). Does nothing without a worker.
  void report(const TrainingProgress& progress);
  // Whether the worker asked this rank to stop at its next convenience (`longhaul stop`). Ranks may
  // learn it at different steps: agree (an all-reduce of the flag) before leaving the loop.
  bool should_stop() const;

 private:
  friend World init(const InitOptions& options);
  struct State;
  explicit World(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

// Blocks until all ranks are there. Errors: Error(kInvalid) for an environment that cannot be
// right, Error(kUnavailable) when the worker or MASTER_ADDR:MASTER_PORT is not there,
// CollectiveError naming the ranks that did not come.
World init(const InitOptions& options = {});

}  // namespace longhaul
