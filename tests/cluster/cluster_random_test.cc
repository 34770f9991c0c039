// Random lives of a cluster. Workers behave, but anything may break at any moment: ranks die in
// every way, streams are cut, workers restart or fall silent, users stop jobs, messages are lost
// with their streams, and the master is killed and goes on with what was durable. Whatever happens:
// slots, GPUs and memory are never over-committed, every job ends, and no rank is both culprit and
// victim.
#include <gtest/gtest.h>
#include <signal.h>

#include <map>
#include <random>
#include <set>

#include "tests/cluster/state_driver.h"

namespace longhaul {
namespace {

// A worker as the real one behaves, without processes.
struct FakeWorker {
  std::string id;
  std::string incarnation;
  int slots = 1;
  int gpus = 0;
  uint64_t memory_bytes = 0;
  std::optional<SessionId> session;
  bool alive = true;  // false: fell silent for good
  std::map<LaunchId, std::set<Rank>> running;
  std::vector<RankEventMessage> unsent;  // happened while the stream was broken
  struct Task {
    HeldLease held;
    std::optional<int> exit_code;  // it has ended, and the master has not answered yet
  };
  std::map<LeaseEpoch, Task> tasks;
};

class RandomLife {
 public:
  explicit RandomLife(uint32_t seed) : random_(seed) {
    const int workers = 1 + pick(4);
    for (int i = 0; i < workers; ++i) {
      workers_.push_back({"w" + std::to_string(i),
                          "i" + std::to_string(i),
                          1 + pick(4),
                          pick(4),
                          static_cast<uint64_t>(pick(8)),
                          {},
                          true,
                          {},
                          {},
                          {}});
      connect(workers_.back());
    }
  }

  // How the jobs ended; for failures also of which class.
  std::set<JobState> states;
  std::set<FailureClass> classes;
  int restarts = 0;
  int node_restarts = 0;
  uint64_t done = 0;
  uint64_t given_up = 0;
  uint64_t gpus_granted = 0;

  void live() {
    for (int step = 0; step < 150; ++step) {
      random_event();
      deliver();
      check();
    }
    settle();
  }

 private:
  int pick(int below) { return static_cast<int>(random_() % static_cast<uint32_t>(below)); }
  FakeWorker& any_worker() {
    return workers_[static_cast<size_t>(pick(static_cast<int>(workers_.size())))];
  }

  void connect(FakeWorker& worker) {
    std::vector<LaunchId> inventory;
    inventory.reserve(worker.running.size());
    for (const auto& [launch, ranks] : worker.running) inventory.push_back(launch);
    std::vector<HeldLease> leases;
    leases.reserve(worker.tasks.size());
    for (const auto& [epoch, task] : worker.tasks) leases.push_back(task.held);
    worker.session = on_.connect(worker.id, worker.slots, worker.incarnation, inventory, leases,
                                 worker.gpus, worker.memory_bytes);
    for (auto& [epoch, task] : std::map(worker.tasks)) {
      if (task.exit_code) end_task(worker, task.held, *task.exit_code);
    }
    for (const RegisteredMessage& registered : on_.take<RegisteredMessage>(*worker.session)) {
      for (const LaunchId& launch : registered.unknown) worker.running.erase(launch);
    }
    for (const RankEventMessage& event : std::exchange(worker.unsent, {})) {
      on_.says(*worker.session, event.launch.job, event.rank, event.change,
               event.launch.generation);
    }
  }

  void say(FakeWorker& worker, const LaunchId& launch, Rank rank, RankChange change) {
    if (worker.session) {
      on_.says(*worker.session, launch.job, rank, std::move(change), launch.generation);
    } else {
      worker.unsent.push_back({launch, rank, std::move(change)});
    }
  }

  // The answer may be lost, so this may be said again.
  void end_task(FakeWorker& worker, const HeldLease& held, int code) {
    worker.tasks.at(held.lease.epoch).exit_code = code;
    if (!worker.session) return;
    const auto outcome = on_.task_ends(*worker.session, held.launch, held.lease, code);
    if (outcome == CommitOutcome::kCommitted) {
      EXPECT_EQ(code, 0);
      EXPECT_EQ((++committed_[{held.launch.job, held.lease.task}]), 1) << "committed twice";
    }
  }

  void task_event(FakeWorker& worker) {
    if (worker.tasks.empty() || !worker.alive) return;
    auto task = worker.tasks.begin();
    std::advance(task, pick(static_cast<int>(worker.tasks.size())));
    // Some are ended twice, some are poison.
    const bool poison = task->second.held.lease.task % 7 == 3;
    end_task(worker, task->second.held,
             task->second.exit_code.value_or(poison || pick(6) == 0 ? 1 : 0));
  }

  void ask_for_more(JobSpec& spec) {
    spec.wait_for_nodes = true;
    if (pick(3) == 0) spec.gpus_per_rank = 1 + pick(2);
    if (pick(3) == 0) spec.memory_per_rank = 1 + static_cast<uint64_t>(pick(4));
    if (pick(3) == 0) spec.priority = pick(5) - 2;
    if (pick(3) == 0) spec.placement = PlacementStyle::kSpread;
    if (pick(3) == 0) spec.time_limit = milliseconds(1 + pick(20'000));
  }

  void submit_array() {
    JobSpec spec;
    spec.array.emplace();
    spec.array->tasks = static_cast<TaskIndex>(1 + pick(40));
    spec.array->batch = 1 + pick(4);
    spec.array->max_at_once = static_cast<TaskIndex>(pick(2) * (1 + pick(5)));
    spec.array->max_attempts = 1 + pick(3);
    ask_for_more(spec);
    const Result<JobId> job = on_.submit(spec);
    ASSERT_TRUE(job);
    jobs_.push_back(*job);
  }

  void random_event() {
    FakeWorker& worker = any_worker();
    switch (pick(16)) {
      case 13:
        if (pick(3) == 0) submit_array();
        break;
      case 14:
      case 15:
        task_event(worker);
        break;
      case 0:
      case 1: {
        JobSpec spec;
        spec.ranks = 1 + pick(7);
        spec.fail_when_full = pick(5) == 0;
        spec.max_restarts = pick(3);
        spec.max_node_restarts = pick(3);
        if (pick(4) == 0) {
          spec.max_ranks_per_worker = 1 + pick(2);
          spec.min_nodes = 1;
        }
        ask_for_more(spec);
        const Result<JobId> job = on_.submit(spec);
        ASSERT_TRUE(job);
        jobs_.push_back(*job);
        break;
      }
      case 2:
        if (!jobs_.empty() && pick(4) == 0) on_.stop(jobs_.back(), pick(2) == 0);
        break;
      case 3:
        if (worker.session && pick(2) == 0) {
          on_.disconnect(*worker.session);
          worker.session.reset();
        }
        break;
      case 4:
        if (!worker.session && worker.alive) connect(worker);
        break;
      case 5:
        if (pick(6) == 0) restart(worker);
        break;
      case 6:
        if (pick(10) == 0) worker.alive = false;
        break;
      case 7:
        pass(pick(3000));
        break;
      case 8:
        if (pick(4) == 0) restart_master();
        break;
      default:
        rank_event(worker);
        break;
    }
  }

  void restart_master() {
    on_.restart_master();
    for (FakeWorker& worker : workers_) worker.session.reset();
  }

  void restart(FakeWorker& worker) {
    if (worker.session) on_.disconnect(*worker.session);
    worker.incarnation += "'";
    worker.running.clear();
    worker.tasks.clear();
    worker.unsent.clear();
    worker.alive = true;
    connect(worker);
  }

  void rank_event(FakeWorker& worker) {
    if (worker.running.empty() || !worker.alive) return;
    auto& [launch, ranks] = *worker.running.begin();
    if (ranks.empty()) return;
    const LaunchId id = launch;
    const Rank rank = *ranks.begin();
    switch (pick(8)) {
      case 0:
        say(worker, id, rank, RankJoined{});
        return;
      case 1:
        say(worker, id, rank, RankLeft{});
        return;
      case 2: {
        const auto kind = pick(2) == 0 ? ErrorKind::kPeerLost : ErrorKind::kDeadline;
        say(worker, id, rank, RankFault{kind, "all-reduce", pick(8) - 1});
        return;
      }
      case 3:
        say(worker, id, rank, RankFault{ErrorKind::kInternal, "own", -1});
        return;
      case 4: {
        const int signal = pick(2) == 0 ? SIGKILL : SIGSEGV;
        end_rank(worker, id, rank, {128 + signal, signal, false, "", {}, ""});
        return;
      }
      case 5:
        end_rank(worker, id, rank, {3, 0, false, "", {}, ""});
        return;
      default:
        end_rank(worker, id, rank, {0, 0, false, "", {}, ""});
        return;
    }
  }

  void end_rank(FakeWorker& worker, const LaunchId& launch, Rank rank, RankExit exit) {
    worker.running[launch].erase(rank);
    if (worker.running[launch].empty()) worker.running.erase(launch);
    say(worker, launch, rank, std::move(exit));
  }

  // The workers do what they were told, each at its own time.
  void deliver() {
    for (FakeWorker& worker : workers_) {
      if (!worker.session || !worker.alive || pick(3) == 0) continue;
      const SessionId session = *worker.session;
      if (on_.closed(session)) {
        on_.disconnect(session);
        worker.session.reset();
        continue;
      }
      for (const PrepareMessage& prepare : on_.take<PrepareMessage>(session)) {
        on_.prepared(session, prepare.launch.job, pick(20) == 0 ? "no such file" : "");
      }
      for (const LaunchMessage& launch : on_.take<LaunchMessage>(session)) {
        worker.running[launch.launch] = {launch.ranks.begin(), launch.ranks.end()};
        for (const Rank rank : launch.ranks) say(worker, launch.launch, rank, RankSpawned{1});
      }
      for (const GrantTasksMessage& grant : on_.take<GrantTasksMessage>(session)) {
        for (const TaskBatch& batch : grant.batches) {
          for (const Lease& lease : batch.leases) {
            const HeldLease held{grant.launch, lease, batch.leases.front().epoch, batch.gpus};
            EXPECT_TRUE(
                worker.tasks.try_emplace(lease.epoch, FakeWorker::Task{held, std::nullopt}).second)
                << "granted twice";
          }
        }
      }
      for (const TaskAnswersMessage& answers : on_.take<TaskAnswersMessage>(session)) {
        for (const LeaseEpoch epoch : answers.taken) worker.tasks.erase(epoch);
        for (const LeaseEpoch epoch : answers.stale) worker.tasks.erase(epoch);
      }
      for (const StopRanksMessage& stop : on_.take<StopRanksMessage>(session)) {
        for (const auto& [epoch, task] : std::map(worker.tasks)) {
          if (task.held.launch == stop.launch)
            end_task(worker, task.held, task.exit_code.value_or(143));
        }
        const auto running = worker.running.find(stop.launch);
        if (running == worker.running.end()) continue;
        for (const Rank rank : std::set<Rank>(running->second)) {
          end_rank(worker, stop.launch, rank,
                   {143, SIGTERM, true, "", {}, pick(5) == 0 ? "T" : ""});
        }
      }
    }
  }

  void pass(int ms) {
    std::vector<SessionId> beating;
    for (const FakeWorker& worker : workers_) {
      if (worker.session && worker.alive) beating.push_back(*worker.session);
    }
    on_.pass(ms, beating);
  }

  void check() {
    for (const NodeStatus& node : on_.state.nodes()) {
      if (node.worker.state != WorkerState::kLost) {
        const Resources room = node.worker.registration.room();
        EXPECT_EQ(both(node.used, room), node.used) << node.worker.id;
      }
    }
    check_gpus();
    for (const JobStatus* job : on_.state.list(true)) {
      if (job->failure) {
        for (const Rank victim : job->failure->victims) EXPECT_NE(victim, job->failure->rank);
      }
      if (job->state == JobState::kFailed) {
        EXPECT_TRUE(job->failure);
        EXPECT_NE(job->exit_code, 0);
        EXPECT_NE(job->failure->message, "");
      }
      if (job->state == JobState::kSucceeded) {
        EXPECT_EQ(job->exit_code, 0);
      }
      EXPECT_LE(job->restarts, job->spec.max_restarts);
      EXPECT_LE(job->node_restarts, job->spec.max_node_restarts);
      EXPECT_EQ(job->generation, 1U + static_cast<unsigned>(job->restarts + job->node_restarts));
      restarts += job->restarts;
      node_restarts += job->node_restarts;
    }
    EXPECT_TRUE(!on_.state.has_active_jobs() || !on_.state.next_wakeup() ||
                *on_.state.next_wakeup() > Instant());
  }

  // A GPU is one rank's, or one running batch's, alone.
  void check_gpus() {
    std::set<std::pair<WorkerId, int>> taken;
    const auto take = [&](const WorkerId& worker, const std::vector<int>& gpus) {
      for (const int gpu : gpus) {
        EXPECT_TRUE(taken.emplace(worker, gpu).second) << worker << " GPU " << gpu;
      }
      gpus_granted += gpus.size();
    };
    for (const JobStatus* job : on_.state.list(false)) {
      for (const RankRecord& rank : job->ranks) {
        EXPECT_EQ(rank.gpus.size(), static_cast<size_t>(job->spec.gpus_per_rank));
        take(rank.worker, rank.gpus);
      }
    }
    std::set<LeaseEpoch> batches;
    for (const FakeWorker& worker : workers_) {
      for (const auto& [epoch, task] : worker.tasks) {
        const TaskTable* tasks = on_.state.tasks(task.held.launch.job);
        const bool current =
            tasks != nullptr && tasks->standing(task.held.lease) == LeaseStanding::kCurrent;
        if (current && worker.session && batches.insert(task.held.batch).second) {
          take(worker.id, task.held.gpus);
        }
      }
    }
  }

  // Everything is mended, ranks end well; then nothing may be left waiting for ever, but for jobs
  // that are larger than the cluster.
  void settle() {
    for (FakeWorker& worker : workers_) {
      if (!worker.alive) restart(worker);
    }
    for (int round = 0; round < 400 && on_.state.has_active_jobs(); ++round) {
      for (FakeWorker& worker : workers_) {
        if (!worker.session) connect(worker);
        for (const auto& [epoch, task] : std::map(worker.tasks)) {
          const bool poison = task.held.lease.task % 7 == 3;
          end_task(worker, task.held, task.exit_code.value_or(poison ? 1 : 0));
        }
        while (!worker.running.empty()) {
          const auto& [launch, ranks] = *worker.running.begin();
          end_rank(worker, launch, *ranks.begin(), {0, 0, false, "", {}, ""});
        }
      }
      deliver();
      check();
      pass(500);
    }
    for (const JobStatus* job : on_.state.list(true)) {
      if (job->array && job->state == JobState::kSucceeded) {
        EXPECT_EQ(job->array->counts.in(TaskState::kDone), job->spec.array->tasks);
      }
      if (job->array) {
        TaskIndex committed = 0;
        for (const auto& [task, times] : committed_) committed += task.first == job->id ? 1 : 0;
        EXPECT_EQ(job->array->counts.in(TaskState::kDone), committed) << job->id;
        done += committed;
        given_up += job->array->counts.in(TaskState::kQuarantined);
      }
      states.insert(job->state);
      if (job->failure) classes.insert(job->failure->failure_class);
    }
    for (const JobStatus* job : on_.state.list(false)) {
      EXPECT_EQ(job->state, JobState::kPending) << job->id << ": " << job->reason;
      EXPECT_NE(job->reason.find("larger than all workers"), std::string::npos) << job->reason;
    }
  }

  std::mt19937 random_;
  testing::StateDriver on_;
  std::vector<FakeWorker> workers_;
  std::vector<JobId> jobs_;
  std::map<std::pair<JobId, TaskIndex>, int> committed_;
};

TEST(ClusterRandom, EveryJobEndsAndNoSlotIsUsedTwice) {
  std::set<JobState> states;
  std::set<FailureClass> classes;
  int restarts = 0;
  int node_restarts = 0;
  uint64_t done = 0;
  uint64_t given_up = 0;
  uint64_t gpus_granted = 0;
  for (uint32_t seed = 0; seed < 300 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    RandomLife life(seed);
    life.live();
    states.merge(life.states);
    classes.merge(life.classes);
    restarts += life.restarts;
    node_restarts += life.node_restarts;
    done += life.done;
    given_up += life.given_up;
    gpus_granted += life.gpus_granted;
  }
  EXPECT_GT(gpus_granted, 1000U);
  EXPECT_GT(done, 1000U);
  EXPECT_GT(given_up, 100U);
  EXPECT_GT(restarts, 0);
  EXPECT_GT(node_restarts, 0);
  EXPECT_TRUE(states.contains(JobState::kSucceeded) && states.contains(JobState::kFailed) &&
              states.contains(JobState::kStopped));
  for (const FailureClass one :
       {FailureClass::kExitCode, FailureClass::kSignal, FailureClass::kKilled,
        FailureClass::kException, FailureClass::kLaunch, FailureClass::kEarlyExit,
        FailureClass::kHang, FailureClass::kWorkerLost, FailureClass::kNoRoom,
        FailureClass::kTimeLimit}) {
    EXPECT_TRUE(classes.contains(one)) << to_string(one) << " never happened";
  }
}

}  // namespace
}  // namespace longhaul
