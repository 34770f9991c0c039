#include "collectives/operation_watch.h"

#include <thread>
#include <utility>

#include "base/log.h"
#include "collectives/verdict.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// How long a failing rank waits to learn who is gone: Gloo's error may come a moment before the
// monitor's connection to the same rank closes.
constexpr milliseconds kPatience(500);
// How long severed operations get to end by themselves, so that nothing writes into their tensors
// any more when the error is reported.
constexpr milliseconds kGrace(1000);

// Whether this thread is a monitor's, inside of a callback that OperationWatch has given it.
thread_local bool in_callback = false;

class CallbackMark {
 public:
  CallbackMark() = default;
  CallbackMark(const CallbackMark&) = delete;
  CallbackMark& operator=(const CallbackMark&) = delete;
  ~CallbackMark() { in_callback = before_; }

 private:
  const bool before_ = std::exchange(in_callback, true);  // one may call the other
};

// Destroys a monitor, whose destructor joins its thread. A callback on that very thread may drop
// the last reference: it ends an operation, the operation's callbacks held the last reference to
// this world, and the world owns the monitor. A thread cannot join itself, so another one does; it
// is detached because nobody is left to wait for it.
void end_monitor(PeerMonitor* monitor) {
  if (!in_callback) {
    delete monitor;
    return;
  }
  std::thread([monitor] { delete monitor; }).detach();
}

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "unknown exception";
  }
}

}  // namespace

Result<std::shared_ptr<PeerMonitor>> OperationWatch::start_monitor(
    const PeerMonitor::Options& options) {
  // The callbacks hold weak references, because the watch owns the monitor that holds them. In each
  // the mark is declared before the locked reference, so it is still set when that reference goes
  // and, being the last one, takes the monitor with it.
  PeerMonitor::Options ours = options;
  ours.progress = [weak = weak_from_this()]() -> uint64_t {
    const CallbackMark mark;
    const auto watch = weak.lock();
    return watch ? watch->traffic().counts().operations : 0;
  };
  ours.on_note = [weak = weak_from_this()](Rank rank, std::string_view text) {
    const CallbackMark mark;
    const auto watch = weak.lock();
    return !watch || watch->notes().hear(rank, text);
  };
  Result<std::unique_ptr<PeerMonitor>> monitor =
      PeerMonitor::start(ours, [weak = weak_from_this()](const PeerFault& fault) {
        const CallbackMark mark;
        if (const auto watch = weak.lock()) watch->on_fault(fault);
      });
  if (!monitor) return monitor.failure();
  notes_.connect(
      [weak = weak_from_this()](const std::string& text) {
        const auto watch = weak.lock();
        const auto connected = watch ? watch->monitor() : nullptr;
        if (connected) connected->say(text);
      },
      [weak = weak_from_this()](const std::string& what, Rank culprit) {
        if (const auto watch = weak.lock()) watch->on_difference(what, culprit);
      });
  MutexLock lock(mutex_);
  monitor_ = std::shared_ptr<PeerMonitor>(monitor->release(), end_monitor);
  return monitor_;
}

void OperationWatch::on_difference(const std::string& what, Rank culprit) {
  fail(CollectiveError(ErrorKind::kInvalid, what, culprit));
}

bool OperationWatch::await_notes(uint64_t number, const std::string& operation) {
  switch (notes_.await(number, std::chrono::steady_clock::now() + options_.timeout)) {
    case StepNotes::Outcome::kAgreed:
      return true;
    case StepNotes::Outcome::kChangesDiffer:
      return false;
    case StepNotes::Outcome::kGivenUp:
      // Throws: whoever gives notes up has set failure_ before.
      throw_failure(operation + " failed: ");
      break;
    case StepNotes::Outcome::kTimeOut:
      break;
  }
  std::rethrow_exception(
      translate(std::make_exception_ptr(std::runtime_error("timed out")), operation));
}

std::shared_ptr<PeerMonitor> OperationWatch::monitor() const {
  MutexLock lock(mutex_);
  return monitor_;
}

void OperationWatch::leave() {
  // Declared before the lock, so it is destroyed after the lock is released: its destructor joins
  // the monitor's thread, which may be waiting for this mutex.
  std::shared_ptr<PeerMonitor> monitor;
  MutexLock lock(mutex_);
  monitor.swap(monitor_);
}

void OperationWatch::begin_step(uint64_t step) {
  MutexLock lock(mutex_);
  step_ = step;
  in_step_ = true;
  next_bucket_ = 0;
}

std::string OperationWatch::describe(const char* name, uint64_t bytes, bool is_bucket) {
  const std::string what = str_cat(name, " of ", format_bytes(bytes));
  MutexLock lock(mutex_);
  if (!in_step_) return what;
  if (!is_bucket) return str_cat(what, " (step ", step_, ")");
  return str_cat(what, " (bucket ", next_bucket_++, " of step ", step_, ")");
}

// A frame that is not the expected one may come from a rank that is at another step, whose note is
// still on its way: the monitor's connection is another one than Gloo's.
void OperationWatch::settle_notes(const std::string& operation) {
  notes_.settle(std::chrono::steady_clock::now() + kPatience);
  throw_failure(operation + " failed: ");
}

void OperationWatch::check(const std::string& operation) const {
  throw_failure(operation + " cannot start, this world has failed: ");
}

void OperationWatch::throw_failure(const std::string& prefix) const {
  MutexLock lock(mutex_);
  if (!failure_) return;
  throw CollectiveError(failure_->kind(), prefix + failure_->what(), failure_->peer());
}

std::exception_ptr OperationWatch::translate(const std::exception_ptr& error,
                                             const std::string& operation) {
  try {
    std::rethrow_exception(error);
  } catch (const CollectiveError&) {
    return error;  // judged already
  } catch (const LinkError& said) {
    // Links know whose bytes they were; of a rank that is gone the monitor knows more.
    if (said.kind() == ErrorKind::kCorrupt) {
      const CollectiveError judged(
          said.kind(), str_cat(operation, " failed on rank ", options_.rank, ": ", said.what()),
          said.peer());
      fail(judged);
      return std::make_exception_ptr(judged);
    }
  } catch (...) {
    // Judged below.
  }
  Evidence evidence;
  evidence.backend_text = text_of(error);
  evidence.timeout = options_.timeout;
  if (const std::shared_ptr<PeerMonitor> seen = monitor()) {
    evidence.fault = seen->wait_for_fault(kPatience);
    evidence.left = seen->left();
    evidence.silent = seen->silent();
    evidence.laggard = seen->laggard();
  }
  const CollectiveError judged = judge(options_.rank, operation, evidence);
  log(LogLevel::kInfo, "collectives", judged.what(), " [backend: ", evidence.backend_text, "]");
  fail(judged);
  return std::make_exception_ptr(judged);
}

// The first failure stands: later ones are mostly its consequences. The monitor tells the other
// ranks and then calls on_fault() here, which ends everything that is pending.
void OperationWatch::fail(const CollectiveError& error) {
  std::shared_ptr<PeerMonitor> monitor;
  {
    MutexLock lock(mutex_);
    if (failure_) return;
    failure_ = error;
    monitor = monitor_;
  }
  notes_.give_up();
  if (monitor) monitor->announce({error.kind(), error.peer(), error.what()});
}

bool OperationWatch::failed() const {
  MutexLock lock(mutex_);
  return failure_.has_value();
}

void OperationWatch::add(uint64_t id, const c10::intrusive_ptr<AbortableWork>& work) {
  MutexLock lock(mutex_);
  works_.emplace(id, work);
}

void OperationWatch::remove(uint64_t id) {
  MutexLock lock(mutex_);
  works_.erase(id);
}

void OperationWatch::add_links(std::weak_ptr<GroupLinks> links) {
  MutexLock lock(mutex_);
  links_.push_back(std::move(links));
}

std::vector<ConnectionReading> OperationWatch::read_links() const {
  std::vector<std::weak_ptr<GroupLinks>> links;
  {
    MutexLock lock(mutex_);
    links = links_;
  }
  std::vector<ConnectionReading> all;
  for (const auto& weak : links) {
    const std::shared_ptr<GroupLinks> strong = weak.lock();
    if (!strong) continue;
    const std::vector<ConnectionReading> some = strong->readings();
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

// Strong references, so that the works can be called without the lock: they call remove(), which
// takes it.
std::vector<c10::intrusive_ptr<AbortableWork>> OperationWatch::pending() const {
  MutexLock lock(mutex_);
  std::vector<c10::intrusive_ptr<AbortableWork>> alive;
  for (const auto& [id, work] : works_) {
    if (c10::intrusive_ptr<AbortableWork> strong = work.lock()) alive.push_back(std::move(strong));
  }
  return alive;
}

// On the monitor's thread: at once when a fault is known, and then about every beat. The repetition
// ends operations that had passed check() before the fault and were added after it. In this order:
// severed connections let most operations end by themselves, with nothing more writing into their
// tensors; only those that have not ended after kGrace are given up.
void OperationWatch::on_fault(const PeerFault& fault) {
  const Instant now = std::chrono::steady_clock::now();
  bool first = false;
  bool patience_over = false;
  std::vector<std::weak_ptr<GroupLinks>> links;
  {
    MutexLock lock(mutex_);
    first = !fault_seen_;
    if (first) fault_seen_ = now;
    patience_over = now - *fault_seen_ >= kGrace;
    if (!failure_) {
      failure_ = CollectiveError(fault.kind, fault.message, fault.culprit);
    }
    links = links_;
  }
  notes_.give_up();
  for (const auto& weak : links) {
    if (const std::shared_ptr<GroupLinks> strong = weak.lock()) strong->sever();
  }
  for (const auto& work : pending()) {
    work->wake();
    if (patience_over) work->give_up();
  }
}

}  // namespace longhaul
