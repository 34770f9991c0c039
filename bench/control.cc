// Simulated workers against a real master: what do its ledger, its owner thread and its streams
// take? Each worker is one stream that registers, sends heartbeats and ends every task that it is
// granted at once, with a small result. No process is started for a task.
//
// usage: bench_control MASTER WORKERS SLOTS TASKS BATCH
// Prints one line: seconds to submit, seconds from then to the end of the job.
#include <grpcpp/create_channel.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "control/common/channel.h"
#include "control/common/compression.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"
#include "longhaul/control/job_client.h"
#include "longhaul/v1/worker_service.grpc.pb.h"

namespace {

using namespace longhaul;

constexpr int kChannels = 8;

class SimulatedWorker final : public grpc::ClientBidiReactor<v1::WorkerMessage, v1::MasterMessage> {
 public:
  SimulatedWorker(v1::WorkerService::Stub* stub, int number, int slots,
                  std::atomic<int>* registered)
      : registered_(registered), result_(compress("a result")) {
    stub->async()->Session(&context_, this);
    v1::WorkerMessage message;
    v1::Register& registration = *message.mutable_register_();
    registration.set_worker_id(str_cat("sim-", number));
    registration.set_incarnation(str_cat("sim-", number, "-", ::getpid()));
    registration.set_host("simulated");
    registration.set_address("127.0.0.1");
    registration.set_slots(static_cast<uint32_t>(slots));
    send(std::move(message));
    StartRead(&incoming_);
    AddHold();  // for send() from other threads
    StartCall();
  }

  void heartbeat() {
    v1::WorkerMessage message;
    message.mutable_heartbeat()->set_sequence(++beats_);
    send(std::move(message));
  }

  void finish() {
    {
      MutexLock lock(mutex_);
      finished_ = true;
    }
    context_.TryCancel();
    RemoveHold();
    MutexLock lock(mutex_);
    while (!done_) changed_.wait(mutex_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (incoming_.has_registered()) ++*registered_;
    if (incoming_.has_grant_tasks()) end_all(incoming_.grant_tasks());
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(mutex_);
    outgoing_.pop_front();
    if (ok && !outgoing_.empty() && !finished_) StartWrite(&outgoing_.front());
  }

  void OnDone(const grpc::Status&) override {
    MutexLock lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }

 private:
  void end_all(const v1::GrantTasks& grant) {
    for (const v1::TaskBatch& batch : grant.batches()) {
      v1::WorkerMessage message;
      for (const v1::TaskGrant& task : batch.tasks()) {
        v1::TaskEnded& ended = *message.mutable_tasks_ended()->add_ended();
        ended.set_job_id(grant.job_id());
        ended.set_generation(grant.generation());
        *ended.mutable_lease() = task.lease();
        ended.mutable_exit();
        ended.set_result(result_);
        ended.set_result_bytes(8);
      }
      send(std::move(message));
    }
  }

  void send(v1::WorkerMessage message) {
    MutexLock lock(mutex_);
    outgoing_.push_back(std::move(message));
    if (outgoing_.size() == 1 && !finished_) StartWrite(&outgoing_.front());
  }

  grpc::ClientContext context_;
  std::atomic<int>* const registered_;
  const std::string result_;
  uint64_t beats_ = 0;
  v1::MasterMessage incoming_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<v1::WorkerMessage> outgoing_ LONGHAUL_GUARDED_BY(mutex_);
  bool finished_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool done_ LONGHAUL_GUARDED_BY(mutex_) = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: bench_control MASTER WORKERS SLOTS TASKS BATCH\n");
    return 64;
  }
  const std::string master = argv[1];
  const int count = std::atoi(argv[2]);
  std::vector<std::unique_ptr<v1::WorkerService::Stub>> stubs;
  for (int i = 0; i < kChannels; ++i) {
    stubs.push_back(v1::WorkerService::NewStub(make_channel(master)));
  }
  std::atomic<int> registered{0};
  std::vector<std::unique_ptr<SimulatedWorker>> workers;
  for (int i = 0; i < count; ++i) {
    workers.push_back(std::make_unique<SimulatedWorker>(
        stubs[static_cast<size_t>(i % kChannels)].get(), i, std::atoi(argv[3]), &registered));
  }
  std::atomic<bool> over{false};
  std::thread heart([&] {
    while (!over) {
      for (const auto& worker : workers) worker->heartbeat();
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
  });
  while (registered < count) std::this_thread::sleep_for(std::chrono::milliseconds(1));

  JobClient client(master, milliseconds(60'000));
  JobSpec spec;
  spec.command = {"simulated"};
  spec.array.emplace();
  spec.array->tasks = static_cast<TaskIndex>(std::atoll(argv[4]));
  spec.array->indices = str_cat("0-", spec.array->tasks - 1);
  spec.array->batch = std::atoi(argv[5]);
  const auto start = std::chrono::steady_clock::now();
  const Result<JobId> job = client.submit(spec);
  if (!job) {
    std::fprintf(stderr, "%s\n", job.failure().message.c_str());
    return 1;
  }
  const double submitted = seconds_since(start);
  const auto watch = client.watch(*job, {});
  int code = 1;
  while (std::optional<WatchEvent> event = watch->next()) {
    const auto* status = std::get_if<JobStatus>(&*event);
    if (status != nullptr && status->state == JobState::kSucceeded) code = 0;
  }
  std::printf("%.4f %.4f\n", submitted, seconds_since(start));
  over = true;
  heart.join();
  for (const auto& worker : workers) worker->finish();
  return code;
}
