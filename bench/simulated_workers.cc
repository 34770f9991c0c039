#include "bench/simulated_workers.h"

#include <unistd.h>

#include <utility>

#include "control/common/compression.h"
#include "longhaul/base/strings.h"

namespace longhaul::bench {
namespace {

constexpr milliseconds kNeverAway{3'600'000};

}  // namespace

struct SimulatedWorkers::Worker {
  struct Held {
    std::string job;
    uint64_t generation = 0;
    uint64_t batch = 0;
    v1::Lease lease;
    std::optional<v1::TaskEnded> ended;  // said, and not answered yet
  };

  int number = 0;
  std::map<uint64_t, Held> held;  // by epoch
  std::unique_ptr<MasterLink> link;
};

SimulatedWorkers::SimulatedWorkers(const Options& options)
    : options_(options), result_(compress("a result")), loop_(std::make_shared<EventLoop>()) {
  for (int i = 0; i < options_.count; ++i) add(i);
  for (const auto& worker : workers_) worker->link->start();
  thread_ = std::thread([this] { loop_->run(); });
}

SimulatedWorkers::~SimulatedWorkers() {
  loop_->stop();
  thread_.join();
}

void SimulatedWorkers::add(int number) {
  workers_.push_back(std::make_unique<Worker>());
  Worker* const worker = workers_.back().get();
  worker->number = number;
  MasterLink::Listener listener;
  listener.make_register = [this, worker] {
    v1::Register registration;
    registration.set_worker_id(str_cat("sim-", worker->number));
    registration.set_incarnation(str_cat("sim-", worker->number, "-", ::getpid()));
    registration.set_host("simulated");
    registration.set_address("127.0.0.1");
    registration.set_slots(static_cast<uint32_t>(options_.slots));
    for (const auto& [epoch, held] : worker->held) {
      v1::HeldLease& lease = *registration.add_leases();
      lease.set_job_id(held.job);
      lease.set_generation(held.generation);
      *lease.mutable_lease() = held.lease;
      lease.set_batch(held.batch);
    }
    return registration;
  };
  listener.registered = [this, worker](const v1::Registered&) {
    ++sessions_;
    ++connected_;
    for (const auto& [epoch, held] : worker->held) {
      if (!held.ended) continue;
      v1::WorkerMessage message;
      *message.mutable_tasks_ended()->add_ended() = *held.ended;
      worker->link->send(std::move(message));
    }
  };
  listener.message = [this, worker](const v1::MasterMessage& message) {
    on_message(*worker, message);
  };
  listener.lost = [this] { --connected_; };
  listener.heartbeat_sent = listener.heartbeat_answered = [] {};
  listener.refused = [](const std::string&) {};
  listener.away = [] {};
  worker->link =
      std::make_unique<MasterLink>(loop_, options_.master, kNeverAway, std::move(listener));
}

void SimulatedWorkers::on_message(Worker& worker, const v1::MasterMessage& message) {
  for (const v1::TaskAnswer& answer : message.task_answers().answers()) {
    worker.held.erase(answer.lease().epoch());
  }
  if (!message.has_grant_tasks()) return;
  for (const v1::TaskAnswer& answer : message.grant_tasks().answers()) {
    worker.held.erase(answer.lease().epoch());
  }
  const v1::GrantTasks& grant = message.grant_tasks();
  for (const v1::TaskBatch& batch : grant.batches()) {
    v1::TasksEnded all;
    for (const v1::TaskGrant& task : batch.tasks()) {
      if (worker.held.count(task.lease().epoch()) > 0) continue;  // granted again after a reconnect
      worker.held[task.lease().epoch()] = {.job = grant.job_id(),
                                           .generation = grant.generation(),
                                           .batch = batch.tasks(0).lease().epoch(),
                                           .lease = task.lease(),
                                           .ended = std::nullopt};
      v1::TaskEnded& ended = *all.add_ended();
      ended.set_job_id(grant.job_id());
      ended.set_generation(grant.generation());
      *ended.mutable_lease() = task.lease();
      ended.mutable_exit();
      ended.set_result(result_);
      ended.set_result_bytes(8);
    }
    if (options_.task_time.count() == 0) {
      end(worker, all);
    } else {
      loop_->after(options_.task_time, [this, &worker, all] { end(worker, all); });
    }
  }
}

void SimulatedWorkers::end(Worker& worker, const v1::TasksEnded& ended) {
  v1::WorkerMessage message;
  for (const v1::TaskEnded& task : ended.ended()) {
    const auto held = worker.held.find(task.lease().epoch());
    if (held == worker.held.end()) continue;
    held->second.ended = task;
    *message.mutable_tasks_ended()->add_ended() = task;
  }
  worker.link->send(std::move(message));
}

}  // namespace longhaul::bench
