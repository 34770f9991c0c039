// RankProgress and RankFault as protobuf messages, and back. Their texts are capped either way
// (base/capped.h): nobody trusts the other side.
#pragma once

#include "longhaul/agent/coordinator.h"
#include "longhaul/v1/job.pb.h"

namespace longhaul {

v1::Progress to_proto(const RankProgress& progress);
RankProgress from_proto(const v1::Progress& progress);

v1::Fault to_proto(const RankFault& fault);
RankFault from_proto(const v1::Fault& fault);

// The same for a message that is passed on as it is.
void cap(v1::Progress* progress);
void cap(v1::Fault* fault);

}  // namespace longhaul
