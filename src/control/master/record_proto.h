// What the master keeps in its ledger, as values and as the bytes of
// proto/longhaul/v1/ledger.proto.
#pragma once

#include <string>

#include "control/ledger/ledger.h"
#include "longhaul/base/result.h"
#include "longhaul/membership/cluster_state.h"
#include "longhaul/membership/job_record.h"
#include "longhaul/membership/worker_table.h"
#include "longhaul/v1/event.pb.h"

namespace longhaul {

std::string to_bytes(const JobRecord& job);
// Errors: kCorrupt.
Result<JobRecord> job_record_from(const std::string& bytes);

std::string to_bytes(const WorkerRecord& worker);
Result<WorkerRecord> worker_record_from(const std::string& bytes);

// The journal of earlier lives, in order; rows that cannot be read are left out.
std::vector<v1::Event> events_of(const LedgerContents& contents);

// All that a ledger held. Errors: kCorrupt, naming the row.
Result<ClusterMemory> remember(const LedgerContents& contents);

}  // namespace longhaul
