// SIGTERM as a request: what World::should_stop() says of it. Whoever stops a rank, a worker or
// torchrun, sends SIGTERM first and SIGKILL when a grace is over.
//
// A program that asks should_stop() gets all of that grace. One that never asks must not keep
// everybody waiting for it: when it has not asked once within kFirstAsk of the signal, it ends by
// SIGTERM as if nothing had been installed. So does a program whose Worlds are all gone (it has
// nothing left to ask), and a child process that it forked.
//
// Thread safety: all of it from any thread.
#pragma once

#include <chrono>

namespace longhaul {

constexpr std::chrono::milliseconds kFirstAsk{2'000};

// From now on, unless the program handles SIGTERM itself, or ignores it. A second call does
// nothing.
void heed_sigterm();

// The program asks: true from the first SIGTERM on.
bool ask_for_sigterm();

}  // namespace longhaul
