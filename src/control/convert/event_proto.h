// What happened and why it waits, as values (cluster/event.h, explain.h) and as protobuf messages.
// A kind of event that we do not know, from a newer program, reads as EventKind::kOther, with its
// text.
#pragma once

#include "cluster/event.h"
#include "cluster/scheduling/explain.h"
#include "longhaul/v1/event.pb.h"
#include "longhaul/v1/job_service.pb.h"

namespace longhaul {

v1::Event to_proto(const ClusterEvent& event);
ClusterEvent from_proto(const v1::Event& proto);

v1::ExplainJobReply to_proto(const Explanation& explanation);
Explanation from_proto(const v1::ExplainJobReply& proto);

}  // namespace longhaul
