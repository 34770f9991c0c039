#include "apps/cli/commands/standalone.h"

#include <thread>
#include <utility>

#include "base/thread.h"
#include "control/client/job_client.h"
#include "control/master/master.h"
#include "control/worker/worker.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"

namespace longhaul::cli {
namespace {

// The worker is in this process: it registers within milliseconds, even on a busy machine in
// seconds.
constexpr milliseconds kRegistrationLimit{20'000};
constexpr milliseconds kLook{10};

class LocalCluster final : public Standalone {
 public:
  LocalCluster(std::unique_ptr<Master> master, const WorkerSettings& settings)
      : master_(std::move(master)),
        worker_(settings),
        worker_thread_("worker", [this] { run_worker(); }) {}

  ~LocalCluster() override {
    // The worker ends first: it stops its ranks and tells the master, which is still there.
    worker_.shutdown();
    worker_thread_.join();
  }

  const std::string& address() const override { return master_->address(); }

  // Waits until the master knows the worker, or the worker has given up.
  Result<void> wait_until_ready() {
    JobClient client(address());
    const Instant give_up = SystemClock().now() + kRegistrationLimit;
    while (SystemClock().now() < give_up) {
      if (const std::optional<Failure> failure = worker_failure()) return *failure;
      // A worker tells nobody in its process that it has registered, so the master is asked.
      const Result<std::vector<NodeInfo>> nodes = client.nodes();
      if (!nodes) return nodes.failure();
      if (!nodes->empty()) return {};
      std::this_thread::sleep_for(kLook);
    }
    return Failure{ErrorKind::kInternal, "the worker inside this process did not register"};
  }

 private:
  void run_worker() {
    const Result<void> ended = worker_.run();
    MutexLock lock(mutex_);
    if (!ended) worker_failure_ = ended.failure();
  }

  std::optional<Failure> worker_failure() {
    MutexLock lock(mutex_);
    return worker_failure_;
  }

  const std::unique_ptr<Master> master_;
  Worker worker_;
  Mutex mutex_;
  std::optional<Failure> worker_failure_ LONGHAUL_GUARDED_BY(mutex_);
  Thread worker_thread_;  // last: it starts when all else is there
};

}  // namespace

Result<std::unique_ptr<Standalone>> start_standalone(int slots) {
  // Without a state folder: nothing of this master is to outlive the process.
  MasterOptions options;
  options.listen = "127.0.0.1:0";
  Result<std::unique_ptr<Master>> master = Master::start(options);
  if (!master) return master.failure();
  WorkerSettings settings;
  settings.master = (*master)->address();
  settings.name = "local";
  settings.slots = slots;
  settings.address = "127.0.0.1";
  auto cluster = std::make_unique<LocalCluster>(std::move(*master), settings);
  if (const Result<void> ready = cluster->wait_until_ready(); !ready) return ready.failure();
  return std::unique_ptr<Standalone>(std::move(cluster));
}

}  // namespace longhaul::cli
