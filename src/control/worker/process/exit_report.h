// What a worker tells of the end of a process, a rank or a task: how it ended, its last lines, and
// what these and the host say about why.
#pragma once

#include <string>
#include <vector>

#include "control/worker/process/managed_process.h"
#include "control/worker/process/oom_watch.h"
#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

// Asked once per process, soon after its end: see OomWatch.
std::string out_of_memory_witness(OomWatch& watch, const RankEnd& end, int64_t pid);

// What Python's torch.distributed.elastic writes to TORCHELASTIC_ERROR_FILE, in one line; "" when
// there is no such file, or what lies there cannot be one.
std::string read_error_file(const std::string& path);

// `error_output`, `output_text`: the ends of its stderr and stdout. Last lines are stderr's, or
// stdout's where that is empty.
v1::RankExited exit_report(const RankEnd& end, const std::string& error_output,
                           const std::string& output_text, const std::string& error_file);

}  // namespace longhaul
