#include "agent/client/shard_proto.h"

#include <utility>

#include "agent/client/enum_pairs.h"

namespace longhaul {
namespace {

v1::ShardLease lease_to_proto(const Lease& lease) {
  v1::ShardLease proto;
  proto.set_task(lease.task);
  proto.set_attempt(lease.attempt);
  proto.set_epoch(lease.epoch);
  return proto;
}

Lease from_proto(const v1::ShardLease& proto) {
  return {proto.task(), proto.attempt(), proto.epoch(), ""};
}

constexpr EnumPairs kOutcomes = {
    std::pair{CommitOutcome::kCommitted, v1::ShardAnswer::COMMITTED},
    std::pair{CommitOutcome::kRepeated, v1::ShardAnswer::REPEATED},
    std::pair{CommitOutcome::kStale, v1::ShardAnswer::STALE},
    std::pair{CommitOutcome::kUnknown, v1::ShardAnswer::UNKNOWN},
};

}  // namespace

v1::ShardPlan to_proto(const ShardPlan& plan) {
  v1::ShardPlan proto;
  proto.set_dataset_size(plan.dataset_size);
  proto.set_shard_size(plan.shard_size);
  proto.set_passes(plan.passes);
  if (plan.shuffle_seed) proto.set_shuffle_seed(*plan.shuffle_seed);
  proto.set_pass_by_pass(plan.pass_by_pass);
  return proto;
}

ShardPlan from_proto(const v1::ShardPlan& proto) {
  ShardPlan plan{proto.dataset_size(), proto.shard_size(), proto.passes(), std::nullopt,
                 proto.pass_by_pass()};
  if (proto.has_shuffle_seed()) plan.shuffle_seed = proto.shuffle_seed();
  return plan;
}

v1::ShardExchange to_proto(const ShardExchange& exchange) {
  v1::ShardExchange proto;
  proto.set_dataset(exchange.dataset);
  *proto.mutable_plan() = to_proto(exchange.plan);
  for (const Lease& lease : exchange.commits) *proto.add_commits() = lease_to_proto(lease);
  for (const Lease& lease : exchange.give_backs) *proto.add_give_backs() = lease_to_proto(lease);
  proto.mutable_held()->Assign(exchange.held.begin(), exchange.held.end());
  proto.set_want(exchange.want);
  return proto;
}

ShardExchange from_proto(const v1::ShardExchange& proto) {
  ShardExchange exchange;
  exchange.dataset = proto.dataset();
  exchange.plan = from_proto(proto.plan());
  for (const v1::ShardLease& lease : proto.commits()) exchange.commits.push_back(from_proto(lease));
  for (const v1::ShardLease& lease : proto.give_backs()) {
    exchange.give_backs.push_back(from_proto(lease));
  }
  exchange.held = {proto.held().begin(), proto.held().end()};
  exchange.want = proto.want();
  return exchange;
}

v1::ShardAnswer to_proto(const ShardAnswer& answer) {
  v1::ShardAnswer proto;
  for (const CommitOutcome outcome : answer.commits) proto.add_commits(kOutcomes.to(outcome));
  for (const ShardGrant& grant : answer.grants) {
    v1::ShardGrant& one = *proto.add_grants();
    *one.mutable_lease() = lease_to_proto(grant.lease);
    one.set_pass(grant.shard.pass);
    one.set_first(grant.shard.range.first);
    one.set_count(grant.shard.range.count);
  }
  proto.set_pass(answer.pass);
  proto.set_done_shards(answer.done_shards);
  proto.set_shards(answer.shards);
  proto.set_over(answer.over);
  return proto;
}

ShardAnswer from_proto(const v1::ShardAnswer& proto) {
  ShardAnswer answer;
  for (const int outcome : proto.commits())
    answer.commits.push_back(kOutcomes.from(outcome, CommitOutcome::kUnknown));
  for (const v1::ShardGrant& grant : proto.grants()) {
    answer.grants.push_back(
        {{grant.pass(), {grant.first(), grant.count()}}, from_proto(grant.lease())});
  }
  answer.pass = proto.pass();
  answer.done_shards = proto.done_shards();
  answer.shards = proto.shards();
  answer.over = proto.over();
  return answer;
}

}  // namespace longhaul
