// What the master keeps in its ledger, as values and as the bytes of
// proto/longhaul/v1/ledger.proto.
#pragma once

#include <string>
#include <vector>

#include "cluster/cluster_state.h"
#include "cluster/jobs/job_record.h"
#include "cluster/workers/worker_table.h"
#include "control/database/database.h"
#include "longhaul/base/result.h"
#include "longhaul/v1/event.pb.h"

namespace longhaul {

std::string to_bytes(const JobRecord& job);
// `shift` is added to moments (clock_mark.h). Errors: kCorrupt.
Result<JobRecord> job_record_from(const std::string& bytes, milliseconds shift = milliseconds(0));

std::string to_bytes(const WorkerRecord& worker);
Result<WorkerRecord> worker_record_from(const std::string& bytes,
                                        milliseconds shift = milliseconds(0));

// The journal of earlier lives, in order; rows that cannot be read are left out.
std::vector<v1::Event> events_of(const LedgerContents& contents);

// All that a ledger held, but for what cannot be read: a job of which some row is damaged comes as
// one that has failed, or is to fail (JobRecord::damage), whatever else is left out, and
// `unreadable` names all of it. `shift`: as above.
ClusterMemory remember(const LedgerContents& contents, milliseconds shift,
                       std::vector<std::string>* unreadable);

}  // namespace longhaul
