#include "apps/cli/follow/input_pump.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

// The most that the master takes in one call (InputRelay::kMostBytes).
constexpr size_t kAtOnce = size_t{256} << 10;
// Before the next call when the last one found no room: the job waits for slots, or the rank has
// not read what it was given. Twice as long each time.
constexpr milliseconds kShortestPause{5};
constexpr milliseconds kLongestPause{200};

// Short: the destructor waits for a call that is under way, and must not wait long for a master
// that is away.
ClientOptions impatient() {
  ClientOptions options;
  options.call_timeout = milliseconds(2'000);
  return options;
}

// The master is away, and may come back.
bool is_passing(const Failure& failure) {
  return failure.kind == ErrorKind::kUnavailable || failure.kind == ErrorKind::kDeadline;
}

}  // namespace

InputPump::InputPump(const std::string& master, JobId job, int input)
    : client_(master, impatient()),
      job_(std::move(job)),
      input_(input),
      stop_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_("lh-stdin", [this] { run(); }) {}

InputPump::~InputPump() {
  const uint64_t one = 1;
  (void)!::write(stop_.get(), &one, sizeof(one));
  thread_.join();
}

std::optional<Failure> InputPump::failure() const {
  MutexLock lock(mutex_);
  return failure_;
}

void InputPump::run() {
  const Result<void> pumped =
      stop_.valid()
          ? pump()
          : Failure{ErrorKind::kExhausted, "standard input cannot be sent: too many open files"};
  if (pumped) return;
  {
    MutexLock lock(mutex_);
    failure_ = pumped.failure();
  }
  // The rank must not take the part that it got for the whole. Asked until the master has heard it,
  // or this process leaves.
  StopOptions options;
  options.by.command = str_cat("longhaul run (", pumped.failure().message, ")");
  while (!client_.stop(job_, options) && pause(kLongestPause)) {
  }
}

Result<void> InputPump::pump() {
  const Result<bool> known = know_job();
  if (!known) return known.failure();
  if (!*known) return {};
  std::string waiting;
  uint64_t offset = 0;  // of `waiting` in all that is read
  bool ended = false;
  milliseconds pause_for = kShortestPause;
  while (true) {
    if (waiting.empty() && !ended) {
      if (!wait_for_input()) return {};
      waiting.resize(kAtOnce);
      const ssize_t size = ::read(input_, waiting.data(), waiting.size());
      const int error = errno;
      waiting.resize(size > 0 ? static_cast<size_t>(size) : 0);
      if (size < 0 && (error == EINTR || error == EAGAIN)) continue;
      if (size < 0) {
        return Failure{ErrorKind::kUnavailable,
                       str_cat("standard input cannot be read: ", ::strerror(error))};
      }
      ended = size == 0;
    }
    // Also with nothing in `waiting`, at the end of the input: the end is said until the worker has
    // heard it, and answers with `closed`.
    const Result<InputTaken> answer = client_.write_input(job_, offset, waiting, ended);
    if (!answer && !is_passing(answer.failure())) {
      return Failure{answer.failure().kind,
                     str_cat("standard input cannot be sent: ", answer.failure().message)};
    }
    if (answer && answer->closed) return {};
    // `taken` counts from the beginning of the input, so an answer that was lost is made up for by
    // the next one. Nothing is sent ahead: the rank's ring holds what it has not read (256 KiB).
    const uint64_t taken = answer ? std::max(answer->taken, offset) - offset : 0;
    if (taken > 0) {
      waiting.erase(0, taken);
      offset += taken;
      pause_for = kShortestPause;
      continue;
    }
    if (!pause(pause_for)) return {};
    pause_for = std::min(2 * pause_for, kLongestPause);
  }
}

// The client learns with this answer to which life of the master's state the job belongs, and names
// it in all further calls. Without that a master that was put back from a copy could give this
// input to another job of the same number.
Result<bool> InputPump::know_job() {
  while (true) {
    const Result<JobStatus> status = client_.get(job_);
    if (status) return true;
    if (!is_passing(status.failure())) return status.failure();
    if (!pause(kLongestPause)) return false;
  }
}

bool InputPump::wait_for_input() const {
  pollfd fds[] = {{stop_.get(), POLLIN, 0}, {input_, POLLIN, 0}};
  // A signal has interrupted it: it waits again.
  while (::poll(fds, std::size(fds), -1) < 0) {
  }
  return fds[0].revents == 0;
}

bool InputPump::pause(milliseconds length) const {
  if (!stop_.valid()) return false;  // nobody could be heard
  pollfd stop{stop_.get(), POLLIN, 0};
  return ::poll(&stop, 1, static_cast<int>(length.count())) <= 0;
}

}  // namespace longhaul::cli
