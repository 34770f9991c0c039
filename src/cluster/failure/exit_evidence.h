// What the end of a process says about its cause, beyond exit code and signal: read from the last
// lines it printed. The worker reads, where the whole tail is at hand; the master weighs
// (failure.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace longhaul {

struct ExitEvidence {
  // "ValueError: bad shape", "std::runtime_error: no such file": what it died of, by its own words.
  std::string exception;
  // "missing library libfoo.so.1", "sh: 1: train: not found": it could not run, though it was
  // executed.
  std::string cannot_run;
  // Who says that it was ended for its memory: "oom_kill of cgroup /jobs rose from 0 to 1".
  std::string out_of_memory;
  // Of our crash handler (base/crash_handler.h) or Python's: a frame each, the innermost first.
  std::vector<std::string> backtrace;

  bool operator==(const ExitEvidence&) const = default;
};

// `text`: the end of what the process wrote to stderr. Knows the dynamic linker's and the shells'
// complaints, Python's traceback and fault handler, libstdc++'s "terminate called", and our crash
// handler. Leaves out_of_memory empty. Pure.
ExitEvidence read_last_output(std::string_view text, int exit_code, int signal);

// An exception that says that memory was short: std::bad_alloc, MemoryError, CUDA out of memory.
bool says_out_of_memory(std::string_view exception);

// An exception of the kind that a rank without our library dies of when another one is gone or
// late: "Connection closed by peer", "Broken pipe", "Timed out". Such a rank is no culprit.
bool says_peer_failed(std::string_view exception);

}  // namespace longhaul
