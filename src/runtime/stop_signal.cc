#include "runtime/stop_signal.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

#include "runtime/live_worlds.h"

namespace longhaul {
namespace {

// Of the process, as its signals are. A signal handler may only touch lock-free atomics and call
// async-signal-safe functions; timer_settime(), signal(), raise() and getpid() are.
std::atomic<bool> sigterm_came = false;
std::atomic<bool> has_asked = false;
std::atomic<pid_t> own_pid = 0;
timer_t first_ask_timer;
std::atomic<bool> has_timer = false;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<pid_t>::is_always_lock_free);

// SIGTERM is blocked while its handler runs, so what is raised here comes when the handler returns.
void end_as_by_default() {
  (void)::signal(SIGTERM, SIG_DFL);
  (void)::raise(SIGTERM);
}

void start_timer() {
  itimerspec when{};
  when.it_value.tv_sec = kFirstAsk.count() / 1000;
  when.it_value.tv_nsec = kFirstAsk.count() % 1000 * 1'000'000;
  ::timer_settime(first_ask_timer, 0, &when, nullptr);
}

// The timer's end comes as SIGTERM too, told apart by its si_code. The program ends as by default
// when nobody is there to ask (a forked child, no World alive), when the time for a first question
// is over, and when no timer could be made that would end it.
void on_sigterm(int, siginfo_t* info, void*) {
  const bool is_timer = info->si_code == SI_TIMER;
  if (is_timer && has_asked) return;
  const bool nobody_asks = ::getpid() != own_pid || LiveWorld::count() == 0 || is_timer;
  if (nobody_asks || (!has_asked && !has_timer)) return end_as_by_default();
  if (!sigterm_came.exchange(true) && !has_asked) start_timer();
}

void install() {
  struct sigaction before{};
  ::sigaction(SIGTERM, nullptr, &before);
  const bool free = (before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL;
  if (!free) return;
  // A forked child inherits the handler but not the timer.
  own_pid = ::getpid();
  sigevent by_sigterm{};
  by_sigterm.sigev_notify = SIGEV_SIGNAL;
  by_sigterm.sigev_signo = SIGTERM;
  has_timer = ::timer_create(CLOCK_MONOTONIC, &by_sigterm, &first_ask_timer) == 0;
  struct sigaction ours{};
  ours.sa_sigaction = on_sigterm;
  // SA_RESTART: the program has not asked for interrupted system calls and may not expect EINTR.
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&ours.sa_mask);
  ::sigaction(SIGTERM, &ours, nullptr);
}

}  // namespace

void heed_sigterm() {
  static const bool installed = [] {
    install();
    return true;
  }();
  (void)installed;
}

// This order: a signal that comes in between finds has_asked and starts no timer.
bool ask_for_sigterm() {
  has_asked = true;
  return sigterm_came;
}

}  // namespace longhaul
