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
// ignored from then on, as in every Python program, unless the program handles it. SIGTERM, unless
// the program handles it, is what should_stop() tells of. Standard output is written line by line
// (as in a terminal), so that lines are seen while the program runs and survive its crash; what a
// program has made unbuffered stays so.
//
// init() may be called again, while a World lives or after it is gone, and so may several programs
// one after the other in one rank: each time all ranks meet anew, and the number of calls is what
// must be the same on all of them. Of several Worlds at once the newest one's progress is shown.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "longhaul/agent/ids.h"
#include "longhaul/base/clock.h"
#include "longhaul/collectives/communicator.h"

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
  std::string codec = {};        // as CodecSpec::str() gives it; empty: what is in use, and why
};

// Thread safety: accessors, report() and should_stop() from any thread; barrier() and
// agree_to_stop() from the thread that trains.
class World {
 public:
  // In order: sends the last report and says goodbye. While an exception passes through: reports a
  // fault instead. Both only when no other World of this process lives.
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
  // Whether this rank was asked to stop: by SIGTERM, which a worker sends (`longhaul stop`, a time
  // limit, a worker that shuts down) and torchrun too, or by its worker's word. True from then on,
  // until the grace is over and SIGKILL comes (`--grace`; 5 s unless said otherwise). A program
  // that has not asked once within 2 s of the signal ends by SIGTERM as any other. Ranks learn of
  // it at different steps: one that leaves the loop on its own leaves the others waiting. Where
  // they train together, ask agree_to_stop().
  bool should_stop() const;
  // Collective, from the thread that trains: whether any rank should stop, the same answer on every
  // rank in the same call, so that all leave the loop after the same step:
  //   if (world.agree_to_stop()) { save_checkpoint(); break; }
  // Costs an all-reduce of four bytes, a round trip or two: over slow links ask every so many
  // steps. Once it has said yes it says so at once. Errors: CollectiveError.
  bool agree_to_stop();

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
