#include "bench/simulated_workers.h"

#include <unistd.h>

#include <utility>

#include "control/convert/compression.h"
#include "longhaul/base/strings.h"

namespace longhaul::bench {
namespace {

constexpr milliseconds kNeverAway{3'600'000};

}  // namespace

struct SimulatedWorkers::Worker {
  // A task it was granted; that is all it must know to tell its end, and to tell it again.
  struct Held {
    std::string job;
    uint64_t generation = 0;
    uint64_t life = 0;
    uint64_t batch = 0;
    uint32_t task = 0;
    uint32_t attempt = 0;
    bool told = false;  // and not answered yet
  };

  std::string id;
  std::string incarnation;
  std::map<uint64_t, Held> held;  // by epoch
  std::unique_ptr<MasterLink> link;

  void fill(uint64_t epoch, const Held& one, v1::Lease* lease) const {
    lease->set_task(one.task);
    lease->set_attempt(one.attempt);
    lease->set_epoch(epoch);
    lease->set_incarnation(incarnation);
  }
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
  worker->id = str_cat("sim-", number);
  worker->incarnation = str_cat(worker->id, "-", ::getpid());
  MasterLink::Listener listener;
  listener.make_register = [this, worker] {
    v1::Register registration;
    registration.set_worker_id(worker->id);
    registration.set_incarnation(worker->incarnation);
    registration.set_host("simulated");
    registration.set_address("127.0.0.1");
    registration.set_slots(static_cast<uint32_t>(options_.slots));
    for (const auto& [epoch, held] : worker->held) {
      v1::HeldLease& lease = *registration.add_leases();
      lease.set_job_id(held.job);
      lease.set_generation(held.generation);
      lease.set_life(held.life);
      worker->fill(epoch, held, lease.mutable_lease());
      lease.set_batch(held.batch);
    }
    return registration;
  };
  listener.registered = [this, worker](const v1::Registered&) {
    ++sessions_;
    ++connected_;
    std::vector<uint64_t> told;
    for (const auto& [epoch, held] : worker->held) {
      if (held.told) told.push_back(epoch);
    }
    if (!told.empty()) end(*worker, told);
  };
  listener.message = [this, worker](const v1::MasterMessage& message) {
    on_message(*worker, message);
  };
  listener.lost = [this] { --connected_; };
  listener.heartbeat_sent = listener.heartbeat_answered = [] {};
  listener.refused = [](const std::string&) {};
  listener.away = [] {};
  worker->link = std::make_unique<MasterLink>(loop_, options_.master, plain_text(), kNeverAway,
                                              std::move(listener));
}

void SimulatedWorkers::on_message(Worker& worker, const v1::MasterMessage& message) {
  if (message.has_prepare()) {
    v1::WorkerMessage answer;
    answer.mutable_prepared()->set_job_id(message.prepare().job_id());
    answer.mutable_prepared()->set_generation(message.prepare().generation());
    answer.mutable_prepared()->set_life(message.prepare().life());
    worker.link->send(std::move(answer));
  }
  if (message.has_launch()) launch(worker, message.launch());
  const v1::GrantTasks& grant = message.grant_tasks();
  for (const v1::TaskAnswers* answers : {&message.task_answers(), &grant.answers()}) {
    for (const uint64_t epoch : answers->taken()) worker.held.erase(epoch);
    for (const uint64_t epoch : answers->stale()) worker.held.erase(epoch);
  }
  for (const v1::TaskBatch& batch : grant.batches()) {
    std::vector<uint64_t> epochs;
    epochs.reserve(static_cast<size_t>(batch.tasks_size()));
    for (const v1::TaskGrant& task : batch.tasks()) {
      const v1::Lease& lease = task.lease();
      const Worker::Held held{.job = grant.job_id(),
                              .generation = grant.generation(),
                              .life = grant.life(),
                              .batch = batch.tasks(0).lease().epoch(),
                              .task = lease.task(),
                              .attempt = lease.attempt()};
      // Or it was granted again after a reconnect.
      if (worker.held.try_emplace(lease.epoch(), held).second) epochs.push_back(lease.epoch());
    }
    if (options_.task_time.count() == 0) {
      end(worker, epochs);
    } else {
      loop_->after(options_.task_time, [this, &worker, epochs] { end(worker, epochs); });
    }
  }
}

void SimulatedWorkers::launch(Worker& worker, const v1::Launch& launch) {
  const auto say = [&worker, launch](auto fill) {
    for (const uint32_t rank : launch.ranks()) {
      v1::WorkerMessage message;
      v1::RankEvent& event = *message.mutable_rank_event();
      event.set_job_id(launch.job_id());
      event.set_generation(launch.generation());
      event.set_life(launch.life());
      event.set_rank(rank);
      fill(event);
      worker.link->send(std::move(message));
    }
  };
  say([](v1::RankEvent& event) { event.mutable_spawned()->set_pid(1); });
  if (options_.ranks_join) say([](v1::RankEvent& event) { event.mutable_joined(); });
  loop_->after(options_.task_time, [this, say] {
    if (options_.ranks_join) say([](v1::RankEvent& event) { event.mutable_left(); });
    say([](v1::RankEvent& event) { event.mutable_exited(); });
  });
}

void SimulatedWorkers::end(Worker& worker, const std::vector<uint64_t>& epochs) {
  v1::WorkerMessage message;
  v1::TasksEnded& all = *message.mutable_tasks_ended();
  for (const uint64_t epoch : epochs) {
    const auto held = worker.held.find(epoch);
    if (held == worker.held.end()) continue;
    held->second.told = true;
    v1::TaskEnded& ended = *all.add_ended();
    ended.set_job_id(held->second.job);
    ended.set_generation(held->second.generation);
    ended.set_life(held->second.life);
    worker.fill(epoch, held->second, ended.mutable_lease());
    ended.mutable_exit();
    ended.set_result(result_);
    ended.set_result_bytes(8);
  }
  if (!all.ended().empty()) worker.link->send(std::move(message));
}

}  // namespace longhaul::bench
