// proto/longhaul/v1/shard.proto <-> the values of longhaul/agent/shards.h. What a peer
// leaves out is empty or 0, which no shard book takes for a plan.
#pragma once

#include "longhaul/agent/shards.h"
#include "longhaul/v1/shard.pb.h"

namespace longhaul {

v1::ShardPlan to_proto(const ShardPlan& plan);
ShardPlan from_proto(const v1::ShardPlan& proto);
v1::ShardExchange to_proto(const ShardExchange& exchange);
ShardExchange from_proto(const v1::ShardExchange& proto);
v1::ShardAnswer to_proto(const ShardAnswer& answer);
ShardAnswer from_proto(const v1::ShardAnswer& proto);

}  // namespace longhaul
