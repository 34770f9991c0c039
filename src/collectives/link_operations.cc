#include "collectives/link_operations.h"

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// How often limits are looked at: they are of seconds and minutes.
constexpr milliseconds kLook{100};

uint64_t on_links(uint64_t number, LinkStrand::Leg leg) {
  return number << 1 | (leg == LinkStrand::Leg::kSecond ? 1 : 0);
}

}  // namespace

MutableByteSpan LinkOperation::memory(size_t bytes) {
  return memory_.emplace_back(bytes);
}

void LinkOperation::end(const std::exception_ptr& error) {
  if (over_.exchange(true)) return;
  ended_(error);
}

void LinkOperation::strand_ended() {
  if (--strands_ > 0) return;
  operations_->steps_.push([self = shared_from_this()] { self->end(nullptr); });
}

void LinkStrand::send(Rank to, ByteSpan bytes, Leg leg) {
  ++open_;
  operation_->operations_->links().send(
      to, on_links(operation_->number_, leg), bytes,
      [self = shared_from_this()](const LinkFault* fault) { self->transferred(fault); });
}

void LinkStrand::receive(Rank from, MutableByteSpan into, Leg leg) {
  get(from, into, leg, true);
}

void LinkStrand::receive_up_to(Rank from, MutableByteSpan into) {
  get(from, into, Leg::kFirst, false);
}

void LinkStrand::get(Rank from, MutableByteSpan into, Leg leg, bool exactly) {
  ++open_;
  operation_->operations_->links().receive(
      from, on_links(operation_->number_, leg), into, exactly,
      [self = shared_from_this()](const LinkFault* fault, size_t) { self->transferred(fault); });
}

void LinkStrand::then(std::function<void()> step) {
  step_ = std::move(step);
  transferred(nullptr);
}

void LinkStrand::end() {
  then(nullptr);
}

void LinkStrand::transferred(const LinkFault* fault) {
  if (fault != nullptr) {
    MutexLock lock(mutex_);
    if (!fault_) fault_ = *fault;
  }
  if (--open_ > 0) return;
  operation_->operations_->steps_.push([self = shared_from_this()] { self->go_on(); });
}

void LinkStrand::go_on() {
  std::optional<LinkFault> fault;
  {
    MutexLock lock(mutex_);
    fault = fault_;
  }
  if (fault) return operation_->end(std::make_exception_ptr(LinkError(*fault)));
  const std::function<void()> step = std::exchange(step_, nullptr);
  if (!step) return operation_->strand_ended();
  open_ = 1;
  try {
    step();
  } catch (...) {
    operation_->end(std::current_exception());
  }
}

LinkOperations::LinkOperations(std::unique_ptr<Links> links)
    : links_(std::move(links)), thread_("lh-steps", [this] { run(); }) {}

LinkOperations::~LinkOperations() {
  // The links call whoever waits, for whom the thread must be there; and steps that run meanwhile
  // may still give something to the links.
  links_->close();
  // Steps that were waiting hear it, and may make others: the thread ends when there are none.
  steps_.push([this] { last_ = true; });
  thread_.join();
}

bool LinkOperations::on_own_thread() const {
  return thread_id_ == std::this_thread::get_id();
}

std::shared_ptr<LinkOperation> LinkOperations::begin(uint64_t number, milliseconds limit,
                                                     LinkOperation::Ended ended) {
  auto operation = std::make_shared<LinkOperation>();
  operation->operations_ = this;
  operation->number_ = number;
  operation->ended_ = std::move(ended);
  if (limit.count() > 0) {
    const Instant at = std::chrono::steady_clock::now() + limit;
    steps_.push([this, operation, at, limit] { limited_.push_back({operation, at, limit}); });
  }
  return operation;
}

std::shared_ptr<LinkStrand> LinkOperations::strand(
    const std::shared_ptr<LinkOperation>& operation) {
  ++operation->strands_;
  return std::shared_ptr<LinkStrand>(new LinkStrand(operation));
}

void LinkOperations::run() {
  thread_id_ = std::this_thread::get_id();
  Instant look = std::chrono::steady_clock::now() + kLook;
  while (true) {
    std::optional<std::function<void()>> step;
    if (last_) {
      step = steps_.pop_until(std::chrono::steady_clock::now());
      if (!step) return;
    } else {
      step = limited_.empty() ? steps_.pop() : steps_.pop_until(look);
    }
    if (step) (*step)();
    if (const Instant now = std::chrono::steady_clock::now(); now >= look) {
      look = now + kLook;
      expire(now);
    }
  }
}

void LinkOperations::expire(Instant now) {
  std::deque<Limited> rest;
  for (Limited& one : std::exchange(limited_, {})) {
    const std::shared_ptr<LinkOperation> operation = one.operation.lock();
    if (!operation || operation->over_) continue;
    if (now < one.at) {
      rest.push_back(std::move(one));
      continue;
    }
    const std::string why = str_cat("timed out after ", one.limit.count(), " ms");
    operation->end(std::make_exception_ptr(std::runtime_error(why)));
    // Some ranks have done a part of it and others not: nothing that comes can be right.
    links_->abort({ErrorKind::kDeadline, -1, "an operation before " + why});
  }
  limited_.insert(limited_.end(), rest.begin(), rest.end());
}

}  // namespace longhaul
