#include "base/crash_handler.h"

#include <backtrace.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace longhaul {
namespace {

constexpr int kCrashSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
constexpr int kMaxFrames = 32;
// Of the stack that the handler, and libbacktrace in it, run on.
constexpr size_t kStackBytes = 256 << 10;
// Reading debug information takes long only when something is very wrong with this process.
constexpr unsigned kPatienceSeconds = 10;

// Of the process, as its signals are. Written by install(), and by the one handler that has set
// `crashing`.
backtrace_state* symbols = nullptr;
std::atomic<bool> crashing = false;
volatile sig_atomic_t crash_signal = 0;

// A line put together without malloc(), cut at its end.
class Line {
 public:
  Line& add(std::string_view text) {
    const size_t size = text.size() < kBytes - size_ ? text.size() : kBytes - size_;
    std::memcpy(text_ + size_, text.data(), size);
    size_ += size;
    return *this;
  }
  Line& add(uint64_t number, unsigned base = 10) {
    char digits[20];
    size_t at = sizeof(digits);
    do {
      digits[--at] = "0123456789abcdef"[number % base];
      number /= base;
    } while (number > 0);
    return add({digits + at, sizeof(digits) - at});
  }
  void write() {
    text_[size_] = '\n';
    (void)!::write(STDERR_FILENO, text_, size_ + 1);
  }

 private:
  static constexpr size_t kBytes = 1000;
  char text_[kBytes + 1];
  size_t size_ = 0;
};

struct Frame {
  uintptr_t address = 0;
  const char* file = nullptr;
  int line = 0;
  const char* function = nullptr;
};

void ignore_error(void*, const char*, int) {}

int note_place(void* frame, uintptr_t, const char* file, int line, const char* function) {
  auto& place = *static_cast<Frame*>(frame);
  place.file = file;
  place.line = line;
  place.function = function;
  return 1;  // of inlined functions the innermost
}

void note_symbol(void* frame, uintptr_t, const char* name, uintptr_t, uintptr_t) {
  static_cast<Frame*>(frame)->function = name;
}

int write_frame(void* count, uintptr_t address) {
  if (address == UINTPTR_MAX) return 0;
  Frame frame{address};
  backtrace_pcinfo(symbols, address, note_place, ignore_error, &frame);
  // Without debug information there may still be a symbol.
  if (frame.function == nullptr) {
    backtrace_syminfo(symbols, address, note_symbol, ignore_error, &frame);
  }
  Line line;
  line.add(kCrashFrame).add("#").add(static_cast<uint64_t>((*static_cast<int*>(count))++));
  line.add(" 0x").add(address, 16);
  line.add(" ").add(frame.function != nullptr ? frame.function : "?");
  if (frame.file != nullptr) {
    line.add(" at ").add(frame.file).add(":").add(static_cast<uint64_t>(frame.line));
  }
  line.write();
  return *static_cast<int*>(count) >= kMaxFrames ? 1 : 0;
}

// The kernel has blocked the signal while its handler runs, so it is unblocked before it is raised
// with its default action. A core dump then shows the crash, and the parent sees the right signal.
[[noreturn]] void end_by(int signal_number) {
  (void)::signal(signal_number, SIG_DFL);
  sigset_t only;
  ::sigemptyset(&only);
  ::sigaddset(&only, signal_number);
  ::pthread_sigmask(SIG_UNBLOCK, &only, nullptr);
  (void)::raise(signal_number);
  ::_exit(128 + signal_number);
}

void on_patience_over(int) {
  end_by(crash_signal);
}

// What was printed after the last line end. Not by fflush(): whoever crashed may hold the lock.
void write_rest_of_stdout() {
  const size_t size = static_cast<size_t>(stdout->_IO_write_ptr - stdout->_IO_write_base);
  if (size > 0) (void)!::write(stdout->_fileno, stdout->_IO_write_base, size);
}

void on_crash(int signal_number, siginfo_t* info, void*) {
  // Another thread reports its crash already, and ends this one too. If this thread has crashed a
  // second time, inside of this handler, it waits here for the alarm.
  while (crashing.exchange(true)) ::pause();
  crash_signal = signal_number;
  (void)::signal(SIGALRM, on_patience_over);
  ::alarm(kPatienceSeconds);
  write_rest_of_stdout();
  Line line;
  line.add(kCrashHeader).add("SIG").add(::sigabbrev_np(signal_number));
  // Up to 0 a process has sent the signal (kill(), raise(), abort()); above, the kernel tells where
  // the fault was.
  if (info->si_code <= 0) {
    const auto sender = static_cast<uint64_t>(info->si_pid);
    if (sender != static_cast<uint64_t>(::getpid())) line.add(" sent by pid ").add(sender);
  } else {
    line.add(" at address 0x").add(reinterpret_cast<uintptr_t>(info->si_addr), 16);
  }
  line.write();
  int frames = 0;
  // Without this function and the kernel's trampoline.
  backtrace_simple(symbols, 2, write_frame, ignore_error, &frames);
  end_by(signal_number);
}

// Of the calling thread. One that the program or a sanitizer has set up stays. Never unmapped: the
// handler may need it until the very end.
void use_own_stack() {
  stack_t before{};
  if (::sigaltstack(nullptr, &before) != 0 || (before.ss_flags & SS_DISABLE) == 0) return;
  void* memory = ::mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) return;
  stack_t stack{};
  stack.ss_sp = memory;
  stack.ss_size = kStackBytes;
  ::sigaltstack(&stack, nullptr);
}

void install() {
  const char* wish = std::getenv(kCrashHandlerVariable);
  if (wish != nullptr && std::string_view(wish) == "0") return;
  symbols = backtrace_create_state(nullptr, /*threaded=*/1, ignore_error, nullptr);
  if (symbols == nullptr) return;
  use_own_stack();
  for (const int signal_number : kCrashSignals) {
    struct sigaction before{};
    ::sigaction(signal_number, nullptr, &before);
    const bool free = (before.sa_flags & SA_SIGINFO) == 0 && before.sa_handler == SIG_DFL;
    if (!free) continue;
    struct sigaction ours{};
    ours.sa_sigaction = on_crash;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigemptyset(&ours.sa_mask);
    ::sigaction(signal_number, &ours, nullptr);
  }
}

}  // namespace

void install_crash_handler() {
  static const bool installed = [] {
    install();
    return true;
  }();
  (void)installed;
}

}  // namespace longhaul
