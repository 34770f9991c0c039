#include "cluster/shards/shard_book.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "cluster/jobs/user_text.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

Result<ShardTable> make_table(const ShardPlan& plan) {
  ShardOptions options;
  options.dataset_size = plan.dataset_size;
  options.shard_size = plan.shard_size;
  options.passes = plan.passes;
  options.shuffle_seed = plan.shuffle_seed;
  options.pass_by_pass = plan.pass_by_pass;
  return ShardTable::create(options);
}

std::string text(const ShardPlan& plan) {
  const std::string order =
      plan.shuffle_seed ? str_cat("shuffled by seed ", *plan.shuffle_seed) : "in order";
  return str_cat(plan.dataset_size, " indices in shards of ", plan.shard_size, ", ", plan.passes,
                 " passes, ", order, plan.pass_by_pass ? ", pass by pass" : "");
}

}  // namespace

Result<ShardBook::Dataset*> ShardBook::open(const std::string& dataset, const ShardPlan& plan) {
  const auto found = tables_.find(dataset);
  if (found != tables_.end()) {
    if (found->second.plan == plan) return &found->second;
    return Failure{ErrorKind::kInvalid,
                   str_cat("dataset '", dataset, "' was opened with ", text(found->second.plan),
                           ", and now with ", text(plan))};
  }
  if (auto bad = why_no_name("the name of a dataset", dataset, kMaxNameBytes)) return *bad;
  if (tables_.size() == kMaxDatasets) {
    return Failure{ErrorKind::kInvalid, str_cat("a job has at most ", kMaxDatasets, " datasets")};
  }
  Result<ShardTable> table = make_table(plan);
  if (!table) return table.failure();
  // Written with the rows of this exchange, so that a master that is restarted cuts the dataset in
  // the same way.
  new_plans_[dataset] = plan;
  return &tables_.emplace(dataset, Dataset{plan, std::move(*table)}).first->second;
}

Result<ShardAnswer> ShardBook::exchange(const LeaseHolder& holder, const ShardExchange& asked,
                                        LeaseEpochs& epochs, Instant now) {
  const Result<Dataset*> opened = open(asked.dataset, asked.plan);
  if (!opened) return opened.failure();
  ShardTable& table = (*opened)->table;
  TaskTable& tasks = table.tasks();

  ShardAnswer answer;
  // The message names no incarnation: a rank speaks for its own leases only.
  const auto own = [&](Lease lease) {
    lease.incarnation = holder.incarnation;
    return lease;
  };
  // Commits and give-backs first: what they name is not held any more and must not be told again
  // below. One that is given back too late has ended already, with the same effect, so what
  // release() says is of no interest.
  for (const Lease& lease : asked.commits) answer.commits.push_back(tasks.commit(own(lease)));
  for (const Lease& lease : asked.give_backs) (void)tasks.release(own(lease));

  const std::unordered_set<LeaseEpoch> held(asked.held.begin(), asked.held.end());
  // Leases that the rank does not know it has: the answer that granted them was lost.
  for (Lease& lease : tasks.leases_of(holder.incarnation)) {
    if (held.contains(lease.epoch)) continue;
    const Shard granted = table.shard(lease.task);
    answer.grants.push_back({granted, std::move(lease)});
  }
  const size_t want = std::min(asked.want, kMaxWant);
  if (answer.grants.size() < want) {
    for (ShardGrant& grant : table.grant(holder, want - answer.grants.size(), epochs, now)) {
      answer.grants.push_back(std::move(grant));
    }
  }
  answer.pass = table.current_pass();
  answer.done_shards = tasks.counts().in(TaskState::kDone);
  answer.shards = tasks.size();
  answer.over = tasks.ended();
  return answer;
}

void ShardBook::release(const std::string& incarnation) {
  for (auto& [name, dataset] : tables_) {
    TaskTable& tasks = dataset.table.tasks();
    for (const Lease& lease : tasks.leases_of(incarnation)) (void)tasks.release(lease);
  }
}

void ShardBook::release_all() {
  for (auto& [name, dataset] : tables_) {
    for (const LeaseHolder& holder : dataset.table.tasks().holders()) release(holder.incarnation);
  }
}

const ShardTable* ShardBook::find(const std::string& dataset) const {
  const auto found = tables_.find(dataset);
  return found == tables_.end() ? nullptr : &found->second.table;
}

ShardRows ShardBook::take_rows() {
  ShardRows rows;
  rows.plans = std::exchange(new_plans_, {});
  for (auto& [name, dataset] : tables_) {
    std::vector<TaskRecord> changed = dataset.table.tasks().take_changes();
    if (!changed.empty()) rows.shards[name] = std::move(changed);
  }
  return rows;
}

Result<void> ShardBook::restore(const std::string& dataset, const ShardPlan& plan,
                                const std::vector<TaskRecord>& rows, Instant now) {
  Result<ShardTable> table = make_table(plan);
  if (!table) return table.failure();
  Result<void> restored = table->tasks().restore(rows, now);
  if (!restored) return restored;
  tables_.emplace(dataset, Dataset{plan, std::move(*table)});
  return {};
}

}  // namespace longhaul
