// What another thread of this process is doing right now: its stack, while it lives and whatever it
// waits for. For a report about a program that hangs.
//
// The thread is interrupted by SIGURG, which does nothing by default, and notes its return
// addresses in the handler; waits that a handler's return restarts (most) go on. Names need
// symbols, lines debug information, as in crash_handler.h. The first call reads those of the whole
// program, which may take a second.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "longhaul/base/clock.h"
#include "longhaul/base/result.h"

namespace longhaul {

// The kernel's number of the calling thread.
pid_t this_thread();

// "#0 0x55d0c9a3 train_step(int*) at train.cc:42", the innermost frame first, at most 32. Thread
// safety: any thread but the one that is looked at. Errors: kUnavailable: there is no such thread,
// it does not take signals (blocked, or stuck in the kernel), or the program handles SIGURG itself.
Result<std::vector<std::string>> stack_of(pid_t thread, milliseconds patience);

}  // namespace longhaul
