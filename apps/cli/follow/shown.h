// What the master tells, made fit for people's terminals: every text in it that somebody else wrote
// is one harmless line afterwards (base/printable.h). JSON gets the values as they came.
#pragma once

#include "control/client/job_client.h"

namespace longhaul::cli {

// All but the command, which quote_command() makes harmless in a way that a shell takes back.
JobStatus shown(JobStatus job);
NodeInfo shown(NodeInfo node);
Explanation shown(Explanation explanation);
ClusterEvent shown(ClusterEvent event);

}  // namespace longhaul::cli
