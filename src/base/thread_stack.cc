#include "base/thread_stack.h"

#include <backtrace.h>
#include <cxxabi.h>
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr int kSignal = SIGURG;  // ignored by default
constexpr size_t kMaxFrames = 32;
constexpr size_t kMaxNameBytes = 200;

// Of the process, as its signals are. One look at a time, under `looking`. `wanted` is the thread
// that is looked at. Both the handler and the one who has waited too long for it try to set it back
// to 0: whoever does so owns the variables below it, so a handler that comes late writes nothing.
Mutex looking;
std::atomic<pid_t> wanted = 0;
std::array<uintptr_t, kMaxFrames> addresses;
size_t address_count = 0;
std::atomic<size_t> taken_count = 0;  // address_count once all of them are there
sem_t taken;
static_assert(std::atomic<pid_t>::is_always_lock_free);
static_assert(std::atomic<size_t>::is_always_lock_free);

void ignore_error(void*, const char*, int) {}

backtrace_state* symbols() {
  static backtrace_state* state = backtrace_create_state(nullptr, 1, ignore_error, nullptr);
  return state;
}

int note_address(void*, uintptr_t address) {
  if (address == UINTPTR_MAX) return 0;
  addresses[address_count++] = address;
  return address_count == kMaxFrames ? 1 : 0;
}

// Does only what a handler may do: install() has called symbols() before, so its static is not
// initialized here, and sem_post() is async-signal-safe. errno belongs to the code that was
// interrupted.
void on_signal(int) {
  pid_t self = this_thread();
  if (!wanted.compare_exchange_strong(self, 0)) return;
  const int error = errno;
  address_count = 0;
  // Without this function and the kernel's trampoline.
  backtrace_simple(symbols(), 2, note_address, ignore_error, nullptr);
  taken_count.store(address_count, std::memory_order_release);
  ::sem_post(&taken);
  errno = error;
}

bool install() {
  struct sigaction before{};
  ::sigaction(kSignal, nullptr, &before);
  if ((before.sa_flags & SA_SIGINFO) != 0 || before.sa_handler != SIG_DFL) return false;
  if (symbols() == nullptr || ::sem_init(&taken, 0, 0) != 0) return false;
  struct sigaction ours{};
  ours.sa_handler = on_signal;
  // SA_RESTART: most of what the thread may wait for goes on waiting.
  ours.sa_flags = SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&ours.sa_mask);
  return ::sigaction(kSignal, &ours, nullptr) == 0;
}

bool wait_until_taken(milliseconds patience) {
  timespec deadline{};
  ::clock_gettime(CLOCK_MONOTONIC, &deadline);
  const int64_t nanoseconds = deadline.tv_nsec + patience.count() % 1000 * 1'000'000;
  deadline.tv_sec += patience.count() / 1000 + nanoseconds / 1'000'000'000;
  deadline.tv_nsec = nanoseconds % 1'000'000'000;
  int outcome = 0;
  do {
    outcome = ::sem_clockwait(&taken, CLOCK_MONOTONIC, &deadline);
  } while (outcome != 0 && errno == EINTR);
  return outcome == 0;
}

struct Place {
  std::string function;
  std::string file;
  int line = 0;
};

int note_place(void* out, uintptr_t, const char* file, int line, const char* function) {
  auto& place = *static_cast<Place*>(out);
  if (function != nullptr) place.function = function;
  if (file != nullptr) place.file = file;
  place.line = line;
  return 1;  // of inlined functions the innermost
}

void note_symbol(void* out, uintptr_t, const char* name, uintptr_t, uintptr_t) {
  if (name != nullptr) static_cast<Place*>(out)->function = name;
}

std::string demangle(const std::string& name) {
  int status = 0;
  char* plain = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string text = status == 0 ? plain : name;
  std::free(plain);
  return text.substr(0, kMaxNameBytes);
}

std::string describe(size_t number, uintptr_t address) {
  Place place;
  backtrace_pcinfo(symbols(), address, note_place, ignore_error, &place);
  if (place.function.empty()) {
    backtrace_syminfo(symbols(), address, note_symbol, ignore_error, &place);
  }
  std::string text = str_cat("#", number, " 0x", std::hex, address, std::dec, " ",
                             place.function.empty() ? "?" : demangle(place.function));
  if (!place.file.empty()) text += str_cat(" at ", place.file, ":", place.line);
  return text;
}

Failure cannot(pid_t thread, const char* why) {
  return {ErrorKind::kUnavailable, str_cat("no stack of thread ", thread, ": ", why)};
}

}  // namespace

pid_t this_thread() {
  return static_cast<pid_t>(::syscall(SYS_gettid));
}

Result<std::vector<std::string>> stack_of(pid_t thread, milliseconds patience) {
  const MutexLock lock(looking);
  static const bool installed = install();
  if (!installed) return cannot(thread, "the program handles SIGURG itself");
  wanted = thread;
  if (::syscall(SYS_tgkill, ::getpid(), thread, kSignal) != 0) {
    wanted = 0;
    return cannot(thread, "there is none");
  }
  if (!wait_until_taken(patience)) {
    const bool begun = wanted.exchange(0) != thread;
    // The handler is running, and posts in a moment. Its post must be taken, or the next look would
    // take it for its own.
    if (begun) wait_until_taken(std::chrono::minutes(1));
    if (!begun) return cannot(thread, "it takes no signal: blocked, or stuck in the kernel");
  }
  const size_t count = taken_count.load(std::memory_order_acquire);
  std::vector<std::string> frames;
  frames.reserve(count);
  for (size_t i = 0; i < count; ++i) frames.push_back(describe(i, addresses[i]));
  return frames;
}

}  // namespace longhaul
