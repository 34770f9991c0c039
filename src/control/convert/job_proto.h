// A job as values (cluster/jobs/job.h) and as protobuf messages (job.proto). An enumerator
// that we do not know, from a newer program, reads as the nearest harmless one.
#pragma once

#include "cluster/jobs/job.h"
#include "longhaul/agent/lease.h"
#include "longhaul/v1/job.pb.h"

namespace longhaul {

v1::JobSpec to_proto(const JobSpec& spec);
JobSpec from_proto(const v1::JobSpec& proto);

void fill(v1::Lease* proto, const Lease& lease);
v1::Lease to_proto(const Lease& lease);
Lease from_proto(const v1::Lease& proto);

v1::RankStatus to_proto(const RankRecord& rank);
// Instants and orders stay at their defaults: they mean something inside the master only.
RankRecord from_proto(const v1::RankStatus& proto);

v1::JobState to_proto(JobState state);
// Of a state that we do not know: kPending.
JobState from_proto(v1::JobState state);

v1::FailureClass to_proto(FailureClass failure_class);
FailureClass from_proto(v1::FailureClass proto);

v1::FailureReport to_proto(const FailureReport& report);
FailureReport from_proto(const v1::FailureReport& proto);

v1::StopOrigin to_proto(const StopOrigin& origin);
// Each text cut to 256 bytes.
StopOrigin from_proto(const v1::StopOrigin& proto);

v1::ArrayStatus to_proto(const ArrayStatus& array);

v1::JobStatus to_proto(const JobStatus& job);
JobStatus from_proto(const v1::JobStatus& proto);

}  // namespace longhaul
