// Says where a program crashed. After install_crash_handler() a SIGSEGV, SIGBUS, SIGFPE, SIGILL or
// SIGABRT writes the signal and a backtrace to stderr, then ends the process by that very signal,
// core dump and all:
//
//   longhaul: crashed with SIGSEGV at address 0x0
//   longhaul:   #0 0x55d0c9a3 _Z10train_stepi at train.cc:42
//
// The worker reads this and the failure report shows it. Function names need symbols (no strip),
// files and lines debug information (-g). GCC's libbacktrace does the work: it takes no memory from
// malloc() and may be called from a signal handler.
#pragma once

#include <string_view>

namespace longhaul {

// How the lines above begin.
inline constexpr std::string_view kCrashHeader = "longhaul: crashed with ";
inline constexpr std::string_view kCrashFrame = "longhaul:   ";

// Set to 0 to go without.
inline constexpr const char* kCrashHandlerVariable = "LONGHAUL_CRASH_HANDLER";

// For those of the signals that nobody else handles yet: the program's own handlers and a
// sanitizer's stay. A second call does nothing. The main thread gets a stack of its own for the
// handler, so that one that ran out of stack is reported too; call it from there.
void install_crash_handler();

}  // namespace longhaul
