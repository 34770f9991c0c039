// Protos become the client's values here, and the other way round. Nothing received is trusted to
// be an enumerator that we know: a newer master's states read as kUnknown.
#pragma once

#include "longhaul/control/job.h"
#include "longhaul/v1/job.pb.h"
#include "longhaul/v1/job_service.pb.h"

namespace longhaul {

v1::JobSpec to_proto(const JobSpec& spec);

JobSpec from_proto(const v1::JobSpec& proto);
JobStatus from_proto(const v1::JobStatus& proto);
RankStatus from_proto(const v1::RankStatus& proto);
FailureReport from_proto(const v1::FailureReport& proto);
NodeStatus from_proto(const v1::Node& proto);
OutputPiece from_proto(const v1::Output& proto);

}  // namespace longhaul
