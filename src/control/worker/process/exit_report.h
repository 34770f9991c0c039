// What a worker tells of the end of a process, a rank or a task: how it ended, its last lines, and
// what these and the host say about why.
#pragma once

#include <string>
#include <vector>

#include "control/worker/process/managed_process.h"
#include "control/worker/process/oom_watch.h"

namespace longhaul {

// Asked once per process, soon after its end: see OomWatch.
std::string out_of_memory_witness(OomWatch& watch, const ProcessEnd& end, int64_t pid);

// What Python's torch.distributed.elastic writes to TORCHELASTIC_ERROR_FILE, in one line; "" when
// there is no such file, or what lies there cannot be one.
std::string read_error_file(const std::string& path);

// `error_output`, `output_text`: the ends of its stderr and stdout. Last lines are stderr's, or
// stdout's where that is empty. There is no evidence of a process that was stopped or never ran; of
// any other, that of `end` that it was ended for its memory is kept.
RankExit exit_report(const ProcessEnd& end, const std::string& error_output,
                     const std::string& output_text, const std::string& error_file);

}  // namespace longhaul
