#include "apps/cli/follow/signals.h"

#include <array>
#include <atomic>
#include <csignal>

namespace longhaul::cli {
namespace {

// A signal handler can reach nothing but globals, and may touch only lock-free atomics.
// SignalCounter is their only user.
std::atomic<int> g_count{0};
std::atomic<int> g_hangups{0};
std::atomic<int> g_first{0};
constexpr std::array kSignals = {SIGINT, SIGTERM, SIGHUP};
std::array<struct sigaction, kSignals.size()> g_before;
struct sigaction g_pipe_before;

void count_signal(int signal) {
  // The total last: whoever sees a signal counted finds it in the other two already.
  int none = 0;
  g_first.compare_exchange_strong(none, signal);
  if (signal == SIGHUP) g_hangups.fetch_add(1);
  g_count.fetch_add(1);
}

}  // namespace

SignalCounter::SignalCounter() {
  g_count = 0;
  g_hangups = 0;
  g_first = 0;
  struct sigaction action = {};
  action.sa_handler = count_signal;
  // Whoever waits in a loop looks at the count between two waits, so no call needs to fail with
  // EINTR.
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &g_before[i]);
    // nohup asks to ignore SIGHUP. A shell's background jobs ignore SIGINT, but whoever sends it to
    // us alone means it.
    if (kSignals[i] == SIGHUP && g_before[i].sa_handler == SIG_IGN) continue;
    sigaction(kSignals[i], &action, nullptr);
  }
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &g_pipe_before);
}

SignalCounter::~SignalCounter() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &g_before[i], nullptr);
  sigaction(SIGPIPE, &g_pipe_before, nullptr);
}

int SignalCounter::count() const {
  return g_count;
}
int SignalCounter::hangups() const {
  return g_hangups;
}
int SignalCounter::first() const {
  return g_first;
}

}  // namespace longhaul::cli
