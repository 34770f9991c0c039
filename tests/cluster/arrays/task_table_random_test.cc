// Random lives of an array job, beside a model that knows the rules in their plainest form: linear
// scans, no coalescing, no lazy memory. Grants, commits in any order, duplicates, failures, lost
// workers, late commits of anything ever granted, retries, stops, and a master that is killed and
// comes back from what it had written. Whatever happens: table and model agree on every answer, no
// task is committed twice, no acknowledged commit is lost, and every task ends done or quarantined.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "cluster/arrays/task_table.h"

namespace longhaul {
namespace {

using enum TaskState;

struct ModelTask {
  TaskState state = kWaiting;
  uint32_t attempt = 0;
  std::optional<Lease> lease;  // that made it leased or done
  FaultCounts failures{};
  FaultKind last_fault = FaultKind::kApplication;
  std::string reason;
  Instant earliest;  // of the end of its backoff
  Instant latest;
};

// The rules, one after the other.
class Model {
 public:
  Model(TaskIndex size, const TaskOptions& options) : tasks(size), options_(options) {}

  std::vector<ModelTask> tasks;
  bool cancelled = false;
  uint32_t failures_since_commit = 0;

  size_t count(TaskState state) const {
    return static_cast<size_t>(std::ranges::count(tasks, state, &ModelTask::state));
  }
  bool all_ended() const { return std::ranges::all_of(tasks, has_ended, &ModelTask::state); }

  // The tasks that a grant of `wanted` must give.
  std::vector<TaskIndex> grantable(size_t wanted) const {
    std::vector<TaskIndex> found;
    if (cancelled) return found;
    const size_t cap = options_.max_leased.value_or(static_cast<TaskIndex>(tasks.size()));
    const size_t leased = count(kLeased);
    for (TaskIndex task = 0; task < tasks.size() && found.size() < wanted; ++task) {
      if (leased + found.size() >= cap || !stage_is_open(task)) break;
      if (tasks[task].state == kWaiting) found.push_back(task);
    }
    return found;
  }

  void granted(const Lease& lease) {
    ModelTask& task = tasks[lease.task];
    task.state = kLeased;
    task.attempt = lease.attempt;
    task.lease = lease;
  }
  bool current(const Lease& lease) const {
    return lease.task < tasks.size() && tasks[lease.task].state == kLeased &&
           tasks[lease.task].lease == lease;
  }
  bool committed(const Lease& lease) const {
    return lease.task < tasks.size() && tasks[lease.task].state == kDone &&
           tasks[lease.task].lease == lease;
  }
  void commit(TaskIndex task) {
    tasks[task].state = kDone;
    tasks[task].reason = "";
    failures_since_commit = 0;
  }
  FailOutcome fail(TaskIndex index, FaultKind kind, const std::string& reason, Instant now) {
    ModelTask& task = tasks[index];
    const int failures = ++task.failures[static_cast<size_t>(kind)];
    task.last_fault = kind;
    task.reason = reason;
    if (kind == FaultKind::kApplication || kind == FaultKind::kOutOfMemory) ++failures_since_commit;
    const int budget[] = {options_.budgets.application, options_.budgets.out_of_memory,
                          options_.budgets.node, options_.budgets.preemption};
    if (failures >= budget[static_cast<size_t>(kind)]) {
      task.state = kQuarantined;
      return FailOutcome::kQuarantined;
    }
    task.state = kind == FaultKind::kPreemption ? kWaiting : kBackingOff;
    begin_backoff(task, now);
    return FailOutcome::kWillRetry;
  }
  void begin_backoff(ModelTask& task, Instant now) const {
    const int failures = task.failures[static_cast<size_t>(task.last_fault)];
    milliseconds longest = options_.backoff.first;
    for (int i = 1; i < failures; ++i) longest = std::min(longest * 2, options_.backoff.limit);
    task.earliest = now + longest / 2;
    task.latest = now + longest;
  }

 private:
  bool stage_is_open(TaskIndex task) const {
    if (!options_.stage_size) return true;
    const TaskIndex begin = task - task % *options_.stage_size;
    return std::all_of(tasks.begin(), tasks.begin() + begin,
                       [](const ModelTask& earlier) { return has_ended(earlier.state); });
  }

  TaskOptions options_;
};

class RandomTasks {
 public:
  explicit RandomTasks(uint32_t seed)
      : random_(seed), size_(1 + pick(40)), options_(random_options()), model_(size_, options_) {
    table_.emplace(size_, options_);
    for (const int i : {0, 1, 2}) holders_.push_back(new_holder(i));
    written_ = model_;
  }

  std::map<std::string, int> happened;

  void live() {
    for (int step = 0; step < 120; ++step) {
      random_event();
      agree_on_counts();
      if (::testing::Test::HasFailure()) return;
    }
    settle();
  }

 private:
  uint32_t pick(uint32_t below) { return random_() % below; }
  LeaseHolder new_holder(int worker) {
    const std::string name = "w" + std::to_string(worker);
    return {name, name + "#" + std::to_string(++incarnations_)};
  }
  LeaseHolder& any_holder() { return holders_[pick(3)]; }

  TaskOptions random_options() {
    TaskOptions options;
    options.budgets.application = static_cast<uint16_t>(1 + pick(4));
    options.budgets.out_of_memory = static_cast<uint16_t>(1 + pick(3));
    options.budgets.node = static_cast<uint16_t>(1 + pick(6));
    if (pick(2) == 0) options.budgets.preemption = static_cast<uint16_t>(1 + pick(4));
    options.backoff = {milliseconds(100), milliseconds(800)};
    options.seed = random_();
    if (pick(2) == 0) options.max_leased = 1 + pick(12);
    if (pick(3) == 0) options.stage_size = 1 + pick(15);
    if (pick(2) == 0) options.stall_after = 1 + pick(10);
    return options;
  }

  void random_event() {
    switch (pick(16)) {
      case 0:
      case 1:
      case 2:
        return grant(any_holder(), 1 + pick(6));
      case 3:
      case 4:
      case 5:
      case 6:
        return commit(any_lease());
      case 7:
      case 8:
        return fail(any_lease(), static_cast<FaultKind>(pick(kFaultKinds)));
      case 9:
        return pick(4) == 0 ? lose_worker(any_holder()) : release(any_lease());
      case 10:
        return retry();
      case 11:
        if (pick(60) == 0) cancel();
        return;
      case 12:
        return pass(milliseconds(pick(300)));
      case 13:
        return write();
      case 14:
        if (pick(3) == 0) restart();
        return;
      default:
        return compare_everything();
    }
  }

  // Anything that was ever granted, more often a late one; and sometimes a forged one.
  Lease any_lease() {
    if (granted_.empty()) return {pick(size_), 1, 1, "nobody"};
    const auto recent = std::min<size_t>(granted_.size(), 10);
    Lease lease = pick(3) == 0
                      ? granted_[pick(static_cast<uint32_t>(granted_.size()))]
                      : granted_[granted_.size() - 1 - pick(static_cast<uint32_t>(recent))];
    switch (pick(40)) {
      case 0:
        lease.task = pick(size_ + 2);
        break;
      case 1:
        lease.attempt += pick(3) - 1;
        break;
      case 2:
        lease.epoch += pick(3) - 1;
        break;
      case 3:
        lease.incarnation = any_holder().incarnation;
        break;
      default:
        break;
    }
    return lease;
  }

  void grant(const LeaseHolder& holder, size_t count) {
    table_->tick(now_);
    agree_on_time();
    const std::vector<TaskIndex> expected = model_.grantable(count);
    const TaskIndex promised = table_->grantable();
    const std::vector<Lease> leases = table_->grant(holder, count, epochs_, now_);
    ASSERT_EQ(leases.size(), expected.size());
    EXPECT_GE(promised, leases.size());
    EXPECT_EQ(promised == 0, model_.grantable(1).empty());
    for (size_t i = 0; i < leases.size(); ++i) {
      EXPECT_EQ(leases[i].task, expected[i]);
      EXPECT_EQ(leases[i].incarnation, holder.incarnation);
      EXPECT_EQ(leases[i].attempt, model_.tasks[expected[i]].attempt + 1);
      EXPECT_TRUE(epochs_seen_.insert(leases[i].epoch).second) << "an epoch twice";
      model_.granted(leases[i]);
      granted_.push_back(leases[i]);
      ++happened["grant"];
    }
  }

  void commit(const Lease& lease) {
    const CommitOutcome outcome = table_->commit(lease);
    if (model_.current(lease)) {
      ASSERT_EQ(outcome, CommitOutcome::kCommitted);
      model_.commit(lease.task);
      unacknowledged_.push_back(lease);
      ++happened["commit"];
    } else if (model_.committed(lease)) {
      ASSERT_EQ(outcome, CommitOutcome::kRepeated);
      unacknowledged_.push_back(lease);
      ++happened["repeated commit"];
    } else {
      const bool granted = lease.task < size_ && lease.attempt > 0 &&
                           lease.attempt <= model_.tasks[lease.task].attempt;
      ASSERT_EQ(outcome, granted ? CommitOutcome::kStale : CommitOutcome::kUnknown);
      ++happened[granted ? "stale commit" : "unknown commit"];
    }
  }

  void fail(const Lease& lease, FaultKind kind) {
    const std::string reason = "failure " + std::to_string(++failures_);
    const FailOutcome outcome = table_->fail(lease, kind, reason, now_);
    if (!model_.current(lease)) {
      ASSERT_EQ(outcome, FailOutcome::kStale);
      return;
    }
    ASSERT_EQ(outcome, model_.fail(lease.task, kind, reason, now_));
    ++happened[std::string(to_string(kind)) +
               (outcome == FailOutcome::kQuarantined ? " quarantined" : "")];
  }

  void release(const Lease& lease) {
    const bool current = model_.current(lease);
    ASSERT_EQ(table_->release(lease), current);
    if (!current) return;
    model_.tasks[lease.task].state = kWaiting;
    ++happened["release"];
  }

  // Half of the lost come back as another incarnation, the others as they were.
  void lose_worker(LeaseHolder& holder) {
    const std::string reason = "lost " + holder.incarnation;
    size_t leases = 0;
    for (TaskIndex task = 0; task < size_; ++task) {
      if (model_.tasks[task].state != kLeased) continue;
      if (model_.tasks[task].lease->incarnation != holder.incarnation) continue;
      model_.fail(task, FaultKind::kNode, reason, now_);
      ++leases;
    }
    ASSERT_EQ(table_->worker_lost(holder.incarnation, reason, now_), leases);
    EXPECT_TRUE(table_->leases_of(holder.incarnation).empty());
    happened["lost lease"] += static_cast<int>(leases);
    if (pick(2) == 0) holder = new_holder(static_cast<int>(&holder - holders_.data()));
  }

  void retry() {
    const TaskIndex task = pick(size_);
    const bool possible = !model_.cancelled && model_.tasks[task].state == kQuarantined;
    ASSERT_EQ(table_->retry(task), possible);
    if (!possible) return;
    model_.tasks[task].state = kWaiting;
    model_.tasks[task].failures = {};
    model_.failures_since_commit = 0;
    ++happened["retry"];
  }

  void cancel() {
    table_->cancel_all();
    model_.cancelled = true;
    for (ModelTask& task : model_.tasks) {
      if (!has_ended(task.state)) task.state = kCancelled;
    }
    write();  // with the job's own record; see cancel_all()
    ++happened["cancel"];
  }

  void pass(milliseconds time) {
    now_ += time;
    table_->tick(now_);
    agree_on_time();
  }

  // The group commit: rows on disk, then the answers go out.
  void write() {
    std::set<TaskIndex> changed;
    for (TaskRecord& row : table_->take_changes()) {
      ASSERT_TRUE(changed.insert(row.task).second) << "two rows of one task";
      ASSERT_EQ(row, table_->record(row.task));
      disk_[row.task] = std::move(row);
    }
    written_ = model_;
    for (const Lease& lease : unacknowledged_) {
      const auto [known, first] = acknowledged_.try_emplace(lease.task, lease);
      ASSERT_EQ(known->second, lease) << "two commits of one task";
    }
    unacknowledged_.clear();
  }

  // The master is killed: what was not written never happened.
  void restart() {
    std::vector<TaskRecord> rows;
    rows.reserve(disk_.size());
    for (const auto& [task, row] : disk_) rows.push_back(row);
    std::ranges::shuffle(rows, random_);
    table_.emplace(size_, options_);
    ASSERT_TRUE(table_->restore(rows, now_));
    model_ = written_;
    model_.failures_since_commit = 0;
    for (ModelTask& task : model_.tasks) {
      if (task.state == kBackingOff) model_.begin_backoff(task, now_);
    }
    if (model_.cancelled) table_->cancel_all();
    epochs_ = LeaseEpochs(++boot_);
    unacknowledged_.clear();
    ++happened["restart"];
    agree_on_time();
    compare_everything();
    for (const auto& [task, lease] : acknowledged_) {
      ASSERT_EQ(table_->standing(lease), LeaseStanding::kCommitted) << "an answer was not kept";
    }
  }

  // When a backoff ends is the table's choice within the bounds of its jitter.
  void agree_on_time() {
    std::optional<Instant> latest;
    for (TaskIndex index = 0; index < size_; ++index) {
      ModelTask& task = model_.tasks[index];
      if (task.state != kBackingOff) continue;
      const TaskState state = table_->state(index);
      if (state == kWaiting) {
        EXPECT_GE(now_, task.earliest) << "backed off too short";
        task.state = kWaiting;
        ++happened["end of backoff"];
      } else {
        ASSERT_EQ(state, kBackingOff);
        latest = latest ? std::min(*latest, task.latest) : task.latest;
        if (table_->next_wakeup() > now_) {
          EXPECT_LT(now_, task.latest) << "backs off too long";
        }
      }
    }
    ASSERT_EQ(table_->next_wakeup().has_value(), latest.has_value());
    if (latest) {
      EXPECT_LE(*table_->next_wakeup(), *latest);
    }
  }

  void agree_on_counts() {
    const TaskCounts counts = table_->counts();
    for (size_t state = 0; state < kTaskStates; ++state) {
      EXPECT_EQ(counts.in_state[state], model_.count(static_cast<TaskState>(state)));
    }
    for (size_t kind = 0; kind < kFaultKinds; ++kind) {
      uint64_t failures = 0;
      for (const ModelTask& task : model_.tasks) failures += task.failures[kind];
      EXPECT_EQ(counts.failures[kind], failures);
    }
    TaskIndex gap = 0;
    while (gap < size_ && has_ended(model_.tasks[gap].state)) ++gap;
    EXPECT_EQ(table_->ended_below(), gap);
    EXPECT_EQ(table_->ended(), model_.all_ended());
    EXPECT_EQ(table_->stalled(), options_.stall_after.has_value() &&
                                     model_.failures_since_commit >= *options_.stall_after);
  }

  void compare_everything() {
    agree_on_counts();
    std::vector<TaskIndex> quarantined;
    std::map<std::string, std::vector<Lease>> leases;
    for (TaskIndex index = 0; index < size_; ++index) {
      const ModelTask& task = model_.tasks[index];
      const TaskRecord record = table_->record(index);
      ASSERT_EQ(record.state, task.state) << index;
      EXPECT_EQ(record.failures, task.failures);
      EXPECT_EQ(record.reason, task.reason);
      EXPECT_EQ(record.attempt, task.attempt);
      if (task.lease) {
        EXPECT_EQ(record.lease(), *task.lease);
        EXPECT_EQ(table_->standing(*task.lease) == LeaseStanding::kCurrent, task.state == kLeased);
      }
      if (task.state == kQuarantined) quarantined.push_back(index);
      if (task.state == kLeased) leases[task.lease->incarnation].push_back(*task.lease);
    }
    EXPECT_EQ(table_->quarantined(), quarantined);
    EXPECT_EQ(table_->holders().size(), leases.size());
    for (const auto& [incarnation, held] : leases) EXPECT_EQ(table_->leases_of(incarnation), held);
  }

  // Everybody behaves from now on but for programs that fail; then everything ends.
  void settle() {
    for (LeaseHolder& holder : holders_) lose_worker(holder);
    const bool poison = pick(2) == 0;
    for (int round = 0; round < 2000 && !table_->ended(); ++round) {
      const size_t before = granted_.size();
      grant(any_holder(), 1 + pick(6));
      for (size_t i = before; i < granted_.size(); ++i) {
        if (poison && granted_[i].task % 3 == 0) {
          fail(granted_[i], FaultKind::kApplication);
        } else {
          commit(granted_[i]);
        }
      }
      pass(milliseconds(100));
      if (pick(10) == 0) write();
      if (pick(20) == 0) restart();
      if (::testing::Test::HasFailure()) return;
      for (const Lease& lease : current_leases()) commit(lease);  // of before a restart
    }
    write();
    compare_everything();
    EXPECT_TRUE(table_->ended());
    for (TaskIndex task = 0; task < size_; ++task) {
      const TaskState state = table_->state(task);
      EXPECT_TRUE(state == kDone || state == kQuarantined ||
                  (model_.cancelled && state == kCancelled));
      EXPECT_EQ(acknowledged_.contains(task), state == kDone);
      if (state == kQuarantined) {
        EXPECT_NE(table_->record(task).reason, "");
      }
    }
    restart();
    EXPECT_TRUE(table_->ended());
  }

  std::vector<Lease> current_leases() const {
    std::vector<Lease> all;
    for (const LeaseHolder& holder : table_->holders()) {
      for (const Lease& lease : table_->leases_of(holder.incarnation)) all.push_back(lease);
    }
    return all;
  }

  std::mt19937 random_;
  TaskIndex size_;
  TaskOptions options_;
  Model model_;
  Model written_{0, {}};
  std::optional<TaskTable> table_;
  uint32_t boot_ = 1;
  LeaseEpochs epochs_{boot_};
  Instant now_{milliseconds(1'000'000)};
  int incarnations_ = 0;
  int failures_ = 0;
  std::vector<LeaseHolder> holders_;

  // What the world saw.
  std::vector<Lease> granted_;
  std::set<LeaseEpoch> epochs_seen_;
  std::vector<Lease> unacknowledged_;
  std::map<TaskIndex, Lease> acknowledged_;
  std::map<TaskIndex, TaskRecord> disk_;
};

TEST(TaskTableRandom, AgreesWithItsModelWhateverHappens) {
  std::map<std::string, int> happened;
  for (uint32_t seed = 0; seed < 10000; ++seed) {
    SCOPED_TRACE(seed);
    RandomTasks life(seed);
    life.live();
    for (const auto& [what, count] : life.happened) happened[what] += count;
    if (::testing::Test::HasFailure()) return;
  }
  for (const char* what :
       {"grant", "commit", "repeated commit", "stale commit", "unknown commit", "application",
        "application quarantined", "out of memory", "out of memory quarantined", "node",
        "node quarantined", "preemption", "preemption quarantined", "lost lease", "release",
        "retry", "cancel", "end of backoff", "restart"}) {
    EXPECT_GT(happened[what], 100) << what;
  }
}

}  // namespace
}  // namespace longhaul
