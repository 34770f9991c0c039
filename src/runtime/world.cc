#include "longhaul/runtime/world.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/cuda.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <map>
#include <utility>
#include <vector>

#include "base/crash_handler.h"
#include "base/log.h"
#include "collectives/meeting.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"
#include "longhaul/collectives/coordinator_store.h"
#include "runtime/agent.h"
#include "runtime/last_words.h"
#include "runtime/launch_environment.h"
#include "runtime/live_output.h"
#include "runtime/live_worlds.h"
#include "runtime/progress_reporter.h"
#include "runtime/stop_signal.h"

namespace longhaul {
namespace {

using StorePtr = c10::intrusive_ptr<c10d::Store>;

// Also this rank's sign of life.
constexpr milliseconds kReportInterval{1000};

// Where this process stands, and the store it meets the others through.
struct Rendezvous {
  Placement placement;
  std::shared_ptr<Coordinator> coordinator;  // null without a worker
  StorePtr store;                            // null in a world of one without a worker
  std::string address;                       // a host that every rank can reach
};

std::optional<std::string> read_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

Rendezvous from_agent(std::shared_ptr<Coordinator> coordinator, milliseconds timeout) {
  Rendezvous rendezvous;
  rendezvous.placement = coordinator->join().value_or_throw();
  rendezvous.store =
      c10::make_intrusive<CoordinatorStore>(coordinator, rendezvous.placement.generation, timeout);
  rendezvous.coordinator = std::move(coordinator);
  return rendezvous;
}

// A process keeps the store that it has met the others through, and serves it if it is its server,
// until its end: a later init() finds it again, and other ranks may still be at it.
class KeptStores {
 public:
  // Of the process, and never destroyed: threads of the store run until its end.
  static KeptStores& instance() {
    static auto* stores = new KeptStores;
    return *stores;
  }
  StorePtr find(const std::string& address) {
    const MutexLock lock(mutex_);
    const auto found = stores_.find(address);
    return found == stores_.end() ? nullptr : found->second;
  }
  void keep(const std::string& address, const StorePtr& store) {
    const MutexLock lock(mutex_);
    stores_[address] = store;
  }
  void drop(const std::string& address) {
    const MutexLock lock(mutex_);
    stores_.erase(address);
  }

 private:
  Mutex mutex_;
  std::map<std::string, StorePtr> stores_ LONGHAUL_GUARDED_BY(mutex_);
};

std::string address_of(const LaunchEnvironment& environment) {
  return str_cat(environment.master_address, ":", environment.master_port);
}

StorePtr connect_store(const LaunchEnvironment& environment, milliseconds timeout) {
  c10d::TCPStoreOptions options;
  options.port = environment.master_port;
  options.isServer = environment.serves_store;
  options.waitWorkers = false;  // the communicator waits, and can name who is missing
  options.timeout = timeout;
  try {
    return c10::make_intrusive<c10d::TCPStore>(environment.master_address, options);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    throw Error(ErrorKind::kUnavailable,
                str_cat("rank ", environment.placement.rank,
                        environment.serves_store ? " cannot serve" : " cannot reach",
                        " the rendezvous store at MASTER_ADDR:MASTER_PORT ",
                        address_of(environment), ": ", text.substr(0, text.find('\n'))));
  }
}

Rendezvous from_environment(const LaunchEnvironment& environment, milliseconds timeout) {
  Rendezvous rendezvous;
  rendezvous.placement = environment.placement;
  rendezvous.address = environment.master_address;
  if (environment.placement.world_size == 1) return rendezvous;
  const std::string address = address_of(environment);
  rendezvous.store = KeptStores::instance().find(address);
  // Its server could not listen at the same port a second time.
  if (rendezvous.store) {
    rendezvous.store->setTimeout(timeout);
    return rendezvous;
  }
  rendezvous.store = connect_store(environment, timeout);
  KeptStores::instance().keep(address, rendezvous.store);
  return rendezvous;
}

bool has_nccl() {
#ifdef USE_C10D_NCCL
  return true;
#else
  return false;
#endif
}

c10::Device choose_device(const InitOptions& options, int local_rank) {
  const bool any_cuda = options.device && options.device->is_cuda() && !options.device->has_index();
  if (options.device && !any_cuda) return *options.device;
  if (!any_cuda && (!has_nccl() || !torch::cuda::is_available()))
    return c10::Device(c10::DeviceType::CPU);
  const auto count = static_cast<int>(torch::cuda::device_count());
  // Our worker has granted this rank its GPUs, and CUDA shows no others to the process: the first
  // one is its own.
  if (std::getenv("LONGHAUL_GPUS") != nullptr) local_rank = 0;
  if (local_rank >= count)
    throw Error(ErrorKind::kInvalid, str_cat("local rank ", local_rank,
                                             " has no GPU of its own: ", "this host has ", count));
  return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(local_rank));
}

std::shared_ptr<Communicator> connect(const Rendezvous& rendezvous, const InitOptions& options,
                                      milliseconds patience) {
  CommunicatorOptions communicator;
  communicator.rank = rendezvous.placement.rank;
  communicator.size = rendezvous.placement.world_size;
  communicator.generation = rendezvous.placement.generation;
  communicator.device = choose_device(options, rendezvous.placement.local_rank);
  communicator.host_address =
      options.host_address.empty() ? rendezvous.placement.host_address : options.host_address;
  communicator.rendezvous_address = rendezvous.address;
  communicator.timeout = options.timeout;
  // The current device of this thread, which NCCL and tensors made without an index go by.
  if (communicator.device.has_index())
    c10::impl::VirtualGuardImpl(communicator.device.type()).setDevice(communicator.device);
  return create_communicator(rendezvous.store, communicator, patience);
}

milliseconds until(Instant deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  return std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(left));
}

// Meets the others at MASTER_ADDR:MASTER_PORT. The store that answers there may still be that of
// the program which rank 0 ran before this one. It goes away when that program ends, which shows as
// kUnavailable: then this rank connects anew, until its time is over. Connecting itself waits for a
// server, so there is no pause between attempts.
std::shared_ptr<Communicator> connect(const LaunchEnvironment& environment,
                                      const InitOptions& options) {
  const Instant deadline = std::chrono::steady_clock::now() + options.timeout;
  for (;;) {
    try {
      return connect(from_environment(environment, until(deadline)), options, until(deadline));
    } catch (const CollectiveError& error) {
      if (error.kind() != ErrorKind::kUnavailable) throw;
      KeptStores::instance().drop(address_of(environment));
      if (std::chrono::steady_clock::now() >= deadline) throw;
    }
  }
}

}  // namespace

struct World::State {
  const LiveWorld live;  // read by the reporter's thread; first, so that it is destroyed last
  Placement placement;
  const std::shared_ptr<Speaker> speaker = std::make_shared<Speaker>();
  std::unique_ptr<ProgressReporter> reporter;  // null without a worker
  std::atomic<bool> agreed_to_stop = false;
  // If there are more in the destructor, an exception is passing through the World's scope.
  const int exceptions_at_start = std::uncaught_exceptions();

  ~State() {
    // Sends a last report, which should not come after the goodbye.
    reporter.reset();
    // With another World the program goes on, and the others still need this rank.
    if (!speaker->coordinator || !live.is_only()) return;
    if (std::uncaught_exceptions() > exceptions_at_start) {
      report_unwinding();
    } else {
      say_goodbye();
    }
  }

  void say_goodbye() const {
    const Result<void> left = speaker->coordinator->leave();
    // Not an error: the worker may be gone, and it sees this process's end in any case.
    if (!left) log(LogLevel::kDebug, "world", "goodbye not heard: ", left.failure().message);
  }

  // While the stack unwinds nobody can ask which exception it is. Whether a peer is gone can be
  // asked, and tells a victim from a culprit.
  void report_unwinding() const {
    const Rank suspect = speaker->communicator ? speaker->communicator->suspect() : -1;
    RankFault fault{ErrorKind::kInternal, "stopped by an exception that the program caught", -1};
    if (suspect >= 0)
      fault = {ErrorKind::kPeerLost,
               str_cat("stopped by an exception while rank ", suspect, " is gone"), suspect};
    report_fault_briefly(*speaker, fault);
  }
};

World::World(std::unique_ptr<State> state) : state_(std::move(state)) {}
World::~World() = default;
World::World(World&&) noexcept = default;
World& World::operator=(World&&) noexcept = default;

Rank World::rank() const {
  return state_->placement.rank;
}
int World::size() const {
  return state_->placement.world_size;
}
int World::local_rank() const {
  return state_->placement.local_rank;
}
int World::local_size() const {
  return state_->placement.local_world_size;
}
Generation World::generation() const {
  return state_->placement.generation;
}
c10::Device World::device() const {
  return communicator()->options().device;
}

const std::shared_ptr<Communicator>& World::communicator() const {
  return state_->speaker->communicator;
}
const c10::intrusive_ptr<c10d::ProcessGroup>& World::process_group() const {
  return communicator()->process_group();
}

void World::barrier() {
  process_group()->barrier()->wait();
}

void World::report(const TrainingProgress& progress) {
  if (state_->reporter) state_->reporter->update(progress);
}

bool World::should_stop() const {
  const bool signalled = ask_for_sigterm();
  return signalled || (state_->reporter && state_->reporter->stop_requested());
}

bool World::agree_to_stop() {
  // Every rank has got the same answer in the same call, so all of them skip the all-reduce from
  // then on.
  if (state_->agreed_to_stop) return true;
  bool stop = should_stop();
  if (size() > 1) {
    std::vector<at::Tensor> votes = {at::full({1}, stop ? 1 : 0, at::kInt)};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::MAX;
    process_group()->allreduce(votes, options)->wait();
    stop = votes[0].item<int>() != 0;
  }
  state_->agreed_to_stop = stop;
  return stop;
}

World init(const InitOptions& options) {
  install_crash_handler();
  heed_sigterm();
  show_lines_as_they_come();
  auto state = std::make_unique<World::State>();
  Speaker& speaker = *state->speaker;
  // Before anything below can throw, so that a wrong environment too ends the program with one
  // line.
  speak_at_terminate(state->speaker);
  speaker.coordinator = agent_from_environment();
  try {
    if (speaker.coordinator) {
      const Rendezvous rendezvous = from_agent(speaker.coordinator, options.timeout);
      state->placement = rendezvous.placement;
      speaker.rank = rendezvous.placement.rank;
      speaker.communicator = connect(rendezvous, options, options.timeout);
    } else if (const auto environment = read_launch_environment(read_variable).value_or_throw()) {
      state->placement = environment->placement;
      speaker.rank = environment->placement.rank;
      speaker.communicator = connect(*environment, options);
    } else {
      speaker.communicator = connect(Rendezvous(), options, options.timeout);
    }
  } catch (...) {
    // The program may catch it and exit as it likes; the worker should know the reason even so.
    report_fault_briefly(speaker, fault_of(std::current_exception(), speaker.rank));
    throw;
  }
  if (speaker.coordinator) {
    state->reporter = std::make_unique<ProgressReporter>(
        speaker.coordinator, speaker.communicator, kReportInterval,
        // State moves with the World by its pointer, so the reference stays right; ~State ends the
        // reporter first.
        [&live = state->live] { return live.is_newest(); });
  }
  return World(std::move(state));
}

}  // namespace longhaul
