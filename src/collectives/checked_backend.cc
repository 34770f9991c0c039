#include "collectives/checked_backend.h"

#include <atomic>
#include <utility>

#include "base/log.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using Tensors = std::vector<at::Tensor>;

// For messages and counts only. A sparse tensor's bytes are not known without its indices and
// values; it counts as 0.
uint64_t bytes_of(const at::Tensor& tensor) {
  return tensor.is_sparse() ? 0 : static_cast<uint64_t>(tensor.numel() * tensor.element_size());
}

uint64_t bytes_of(const Tensors& tensors) {
  uint64_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += bytes_of(tensor);
  return bytes;
}

uint64_t bytes_of(const std::vector<Tensors>& lists) {
  uint64_t bytes = 0;
  for (const Tensors& tensors : lists) bytes += bytes_of(tensors);
  return bytes;
}

// A call that the backend refused outright (wrong dtype, empty list). Gloo checks arguments with
// TORCH_CHECK before it sends anything, so a c10::Error out of the call itself is the caller's
// mistake: the world does not fail, and the other ranks are not told.
CollectiveError refused(const std::string& what, const c10::Error& error) {
  return {ErrorKind::kInvalid, str_cat(what, " was refused: ", error.what_without_backtrace()), -1};
}

}  // namespace

// Operations inside the wrapped backend that have not ended: it cannot be destroyed before. Shared,
// because a callback of such an operation may come after this backend is gone, when the wrapped one
// was left behind.
struct CheckedBackend::Outstanding {
  Mutex mutex;
  CondVar changed;
  int count LONGHAUL_GUARDED_BY(mutex) = 0;

  void add(int amount) {
    MutexLock lock(mutex);
    count += amount;
    changed.notify_all();
  }
  bool wait_for_none(milliseconds patience) {
    const Instant deadline = std::chrono::steady_clock::now() + patience;
    MutexLock lock(mutex);
    while (count > 0) {
      if (!changed.wait_until(mutex, deadline)) return false;
    }
    return true;
  }
};

namespace {

// A collective that runs on Gloo's worker threads. Its future ends with the inner one, or earlier
// by give_up(), when the inner operation is still running and may still write into its tensors.
class CheckedWork final : public AbortableWork {
 public:
  CheckedWork(c10::intrusive_ptr<c10d::Work> inner, std::string what,
              std::shared_ptr<OperationWatch> watch)
      : AbortableWork(-1, inner->retrieveOpType()),
        inner_(std::move(inner)),
        what_(std::move(what)),
        watch_(std::move(watch)),
        id_(watch_->next_work()),
        future_(c10::make_intrusive<c10::ivalue::Future>(inner_->getFuture()->elementType())) {}

  // Once, right after construction: the watch may end it from now on. The callback runs on a worker
  // thread of Gloo's, or here when the operation has ended already. It keeps this object until
  // then, also when the caller has dropped it.
  void start(std::function<void()> on_inner_end) {
    auto self = c10::intrusive_ptr<CheckedWork>::reclaim_copy(this);
    watch_->add(id_, self);
    inner_->getFuture()->addCallback(
        [self, on_inner_end = std::move(on_inner_end)](c10::ivalue::Future& inner) {
          // First: end() runs callbacks of others, who may destroy the backend, and its destructor
          // waits for this count.
          on_inner_end();
          if (inner.hasError()) {
            self->end(self->watch_->translate(inner.exception_ptr(), self->what_), {});
          } else {
            self->end(nullptr, inner.value());
          }
        });
  }

  bool wait(std::chrono::milliseconds timeout) override {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto done = [this] { return completed_; };
    // Without a time-out of its own this still ends: Gloo's operation has one, and a fault ends it
    // earlier. A time-out given here is the caller's alone: the operation goes on, and the world
    // has not failed.
    if (timeout == kNoTimeout) {
      cv_.wait(lock, done);
    } else if (!cv_.wait_for(lock, timeout, done)) {
      throw CollectiveError(
          ErrorKind::kDeadline,
          str_cat(what_, " is not done after the ", timeout.count(), " ms of this wait()"), -1);
    }
    if (exception_) std::rethrow_exception(exception_);
    return true;
  }

  void give_up() override {
    end(watch_->translate(std::make_exception_ptr(std::runtime_error("aborted")), what_), {});
  }

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  Tensors result() override { return inner_->result(); }
  uint64_t getSequencenumber() const override { return inner_->getSequencenumber(); }

 private:
  // Called by Gloo's thread, and by the monitor's for give_up(): whichever comes first counts. The
  // future is completed before wait() returns, so that whoever has waited finds its value.
  void end(const std::exception_ptr& error, const c10::IValue& value) {
    if (ended_.exchange(true)) return;
    watch_->remove(id_);
    watch_->traffic().end_operation();
    if (error) {
      future_->setError(error);
    } else {
      future_->markCompleted(value);
    }
    finish(error);
  }

  const c10::intrusive_ptr<c10d::Work> inner_;
  const std::string what_;
  const std::shared_ptr<OperationWatch> watch_;
  const uint64_t id_;
  const c10::intrusive_ptr<c10::ivalue::Future> future_;
  std::atomic<bool> ended_ = false;
};

// A send, a receive, or one of Gloo's composed operations (reduce-scatter). They have no future and
// end inside wait(). Another thread can end a transfer's wait() by abort().
class WaitedWork final : public AbortableWork {
 public:
  WaitedWork(c10::intrusive_ptr<c10d::Work> inner, std::string what,
             std::shared_ptr<OperationWatch> watch, bool is_transfer)
      : AbortableWork(-1, inner->retrieveOpType()),
        inner_(std::move(inner)),
        what_(std::move(what)),
        watch_(std::move(watch)),
        id_(watch_->next_work()),
        transfer_(is_transfer) {}
  // A work that nobody waited for ends when the last who holds it lets go. The watch has a weak
  // reference, for which the object would be kept, undestroyed.
  void release_resources() override { end(); }
  ~WaitedWork() override { end(); }

  // Once, right after construction.
  void start() { watch_->add(id_, c10::intrusive_ptr<WaitedWork>::reclaim_copy(this)); }

  bool wait(std::chrono::milliseconds timeout) override {
    bool done = false;
    std::exception_ptr error;
    try {
      done = inner_->wait(timeout);
    } catch (...) {
      error = watch_->translate(std::current_exception(), what_);
    }
    // Gloo's wait() returns false when it was ended by abort(). It does not throw then.
    if (!done && !error) {
      error = watch_->translate(std::make_exception_ptr(std::runtime_error("aborted")), what_);
    }
    end();
    finishAndThrow(error);
    return true;
  }

  // Aborting wakes the thread inside wait(), and any thread may do it. Composed operations cannot
  // be aborted; they wait for other operations of Gloo's, which end when the connections are
  // severed.
  void wake() override {
    if (transfer_) inner_->abort();
  }
  void abort() override { wake(); }
  int sourceRank() const override { return inner_->sourceRank(); }
  uint64_t getSequencenumber() const override { return inner_->getSequencenumber(); }

 private:
  // Once, however often it is waited for.
  void end() {
    if (ended_.exchange(true)) return;
    watch_->remove(id_);
    if (!transfer_) watch_->traffic().end_operation();
  }

  const c10::intrusive_ptr<c10d::Work> inner_;
  const std::string what_;
  const std::shared_ptr<OperationWatch> watch_;
  const uint64_t id_;
  const bool transfer_;
  std::atomic<bool> ended_ = false;
};

// Gloo's composed operations throw from getFuture() instead of giving one.
bool has_future(c10d::Work& work) {
  try {
    work.getFuture();
    return true;
  } catch (const c10::Error&) {
    return false;
  }
}

}  // namespace

CheckedBackend::CheckedBackend(c10::intrusive_ptr<c10d::Backend> inner,
                               std::shared_ptr<OperationWatch> watch,
                               std::shared_ptr<GroupLinks> links)
    : Backend(inner->getRank(), inner->getSize()),
      inner_(std::move(inner)),
      watch_(std::move(watch)),
      links_(std::move(links)),
      outstanding_(std::make_shared<Outstanding>()) {
  if (links_) watch_->add_links(links_);
}

CheckedBackend::~CheckedBackend() {
  if (!watch_->failed()) return;
  if (links_) links_->sever();
  if (links_ && links_->ends_all()) return;
  if (outstanding_->wait_for_none(std::chrono::seconds(1))) return;
  // Gloo does not wake an operation whose connection broke in the middle of a message before its
  // time-out, and the destructor of its group waits for that operation. We do not wait: the last
  // reference to the group is dropped without being counted down, so that it lives until the
  // process ends.
  log(LogLevel::kInfo, "collectives", "rank ", getRank(),
      " leaves a broken group behind: an operation in it ends only by its time-out");
  c10::intrusive_ptr<c10d::Backend> left_behind = inner_;
  left_behind.release();
}

void CheckedBackend::abort() {
  watch_->fail(CollectiveError(
      ErrorKind::kPeerLost, str_cat("rank ", getRank(), " aborted its process group"), getRank()));
  if (links_) links_->sever();
}

namespace {

// Every collective of Gloo's enters c10d's flight recorder, one object per process, which looks
// into a map before it takes its own lock (FlightRecorderDetail.hpp, recordWithResetEnabled): two
// threads that start collectives of different groups at once would break it.
Mutex& flight_recorder_mutex() {
  static Mutex mutex;
  return mutex;
}

}  // namespace

template <typename Call>
CheckedBackend::WorkPtr CheckedBackend::collective(const std::string& what, const Call& call) {
  // After a failure nothing is started any more: the other ranks may be anywhere in their programs.
  watch_->check(what);
  watch_->traffic().begin_operation(what);
  WorkPtr inner;
  try {
    const MutexLock lock(flight_recorder_mutex());
    inner = call();
  } catch (const c10::Error& error) {
    watch_->traffic().end_operation();
    throw refused(what, error);
  } catch (...) {
    watch_->traffic().end_operation();
    std::rethrow_exception(watch_->translate(std::current_exception(), what));
  }
  if (!has_future(*inner)) {
    auto work = c10::make_intrusive<WaitedWork>(std::move(inner), what, watch_, false);
    work->start();
    return work;
  }
  auto work = c10::make_intrusive<CheckedWork>(std::move(inner), what, watch_);
  outstanding_->add(1);
  work->start([outstanding = outstanding_] { outstanding->add(-1); });
  return work;
}

template <typename Call>
CheckedBackend::WorkPtr CheckedBackend::point_to_point(const std::string& what, const Call& call) {
  watch_->check(what);
  try {
    auto work = c10::make_intrusive<WaitedWork>(call(), what, watch_, true);
    work->start();
    // A fault that came between check() and add() has not seen this work, and nobody else would
    // wake it before the monitor's next beat.
    if (watch_->failed()) work->wake();
    return work;
  } catch (const c10::Error& error) {
    throw refused(what, error);
  } catch (...) {
    std::rethrow_exception(watch_->translate(std::current_exception(), what));
  }
}

CheckedBackend::WorkPtr CheckedBackend::broadcast(Tensors& tensors,
                                                  const c10d::BroadcastOptions& options) {
  return collective(watch_->describe("broadcast", bytes_of(tensors), false),
                    [&] { return inner_->broadcast(tensors, options); });
}

CheckedBackend::WorkPtr CheckedBackend::allreduce(Tensors& tensors,
                                                  const c10d::AllreduceOptions& options) {
  const uint64_t bytes = bytes_of(tensors);
  // Counted as a bucket of the step, for messages. DDP's all-reduces are its buckets, in their
  // order; others within a step (SyncBatchNorm's, or the program's own) count too and move the
  // number.
  WorkPtr work = collective(watch_->describe("all-reduce", bytes, true),
                            [&] { return inner_->allreduce(tensors, options); });
  // Gloo's ring: n-1 chunks of 1/n to reduce, n-1 to gather.
  const uint64_t sent = 2 * (getSize() - 1) * bytes / getSize();
  watch_->traffic().add_bytes(sent, sent);
  return work;
}

CheckedBackend::WorkPtr CheckedBackend::allreduce_sparse(Tensors& tensors,
                                                         const c10d::AllreduceOptions& options) {
  return collective(watch_->describe("sparse all-reduce", bytes_of(tensors), true),
                    [&] { return inner_->allreduce_sparse(tensors, options); });
}

CheckedBackend::WorkPtr CheckedBackend::allreduce_coalesced(
    Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) {
  const uint64_t bytes = bytes_of(tensors);
  WorkPtr work = collective(watch_->describe("coalesced all-reduce", bytes, true),
                            [&] { return inner_->allreduce_coalesced(tensors, options); });
  const uint64_t sent = 2 * (getSize() - 1) * bytes / getSize();
  watch_->traffic().add_bytes(sent, sent);
  return work;
}

CheckedBackend::WorkPtr CheckedBackend::reduce(Tensors& tensors,
                                               const c10d::ReduceOptions& options) {
  return collective(watch_->describe("reduce", bytes_of(tensors), false),
                    [&] { return inner_->reduce(tensors, options); });
}

CheckedBackend::WorkPtr CheckedBackend::allgather(TensorLists& outputs, Tensors& inputs,
                                                  const c10d::AllgatherOptions& options) {
  return collective(watch_->describe("all-gather", bytes_of(inputs), false),
                    [&] { return inner_->allgather(outputs, inputs, options); });
}

CheckedBackend::WorkPtr CheckedBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                        const c10d::AllgatherOptions& options) {
  return collective(watch_->describe("all-gather", bytes_of(input), false),
                    [&] { return inner_->_allgather_base(output, input, options); });
}

CheckedBackend::WorkPtr CheckedBackend::allgather_coalesced(TensorLists& outputs, Tensors& inputs,
                                                            const c10d::AllgatherOptions& options) {
  return collective(watch_->describe("coalesced all-gather", bytes_of(inputs), false),
                    [&] { return inner_->allgather_coalesced(outputs, inputs, options); });
}

CheckedBackend::WorkPtr CheckedBackend::allgather_into_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::AllgatherOptions& options) {
  return collective(watch_->describe("coalesced all-gather", bytes_of(inputs), false), [&] {
    return inner_->allgather_into_tensor_coalesced(outputs, inputs, options);
  });
}

CheckedBackend::WorkPtr CheckedBackend::gather(TensorLists& outputs, Tensors& inputs,
                                               const c10d::GatherOptions& options) {
  return collective(watch_->describe("gather", bytes_of(inputs), false),
                    [&] { return inner_->gather(outputs, inputs, options); });
}

CheckedBackend::WorkPtr CheckedBackend::scatter(Tensors& outputs, TensorLists& inputs,
                                                const c10d::ScatterOptions& options) {
  return collective(watch_->describe("scatter", bytes_of(outputs), false),
                    [&] { return inner_->scatter(outputs, inputs, options); });
}

CheckedBackend::WorkPtr CheckedBackend::reduce_scatter(Tensors& outputs, TensorLists& inputs,
                                                       const c10d::ReduceScatterOptions& options) {
  return collective(watch_->describe("reduce-scatter", bytes_of(inputs), false),
                    [&] { return inner_->reduce_scatter(outputs, inputs, options); });
}

CheckedBackend::WorkPtr CheckedBackend::_reduce_scatter_base(
    at::Tensor& output, at::Tensor& input, const c10d::ReduceScatterOptions& options) {
  return collective(watch_->describe("reduce-scatter", bytes_of(input), false),
                    [&] { return inner_->_reduce_scatter_base(output, input, options); });
}

CheckedBackend::WorkPtr CheckedBackend::reduce_scatter_tensor_coalesced(
    Tensors& outputs, Tensors& inputs, const c10d::ReduceScatterOptions& options) {
  return collective(watch_->describe("coalesced reduce-scatter", bytes_of(inputs), false), [&] {
    return inner_->reduce_scatter_tensor_coalesced(outputs, inputs, options);
  });
}

CheckedBackend::WorkPtr CheckedBackend::alltoall_base(at::Tensor& output, at::Tensor& input,
                                                      std::vector<int64_t>& output_splits,
                                                      std::vector<int64_t>& input_splits,
                                                      const c10d::AllToAllOptions& options) {
  return collective(watch_->describe("all-to-all", bytes_of(input), false), [&] {
    return inner_->alltoall_base(output, input, output_splits, input_splits, options);
  });
}

CheckedBackend::WorkPtr CheckedBackend::alltoall(Tensors& outputs, Tensors& inputs,
                                                 const c10d::AllToAllOptions& options) {
  return collective(watch_->describe("all-to-all", bytes_of(inputs), false),
                    [&] { return inner_->alltoall(outputs, inputs, options); });
}

CheckedBackend::WorkPtr CheckedBackend::barrier(const c10d::BarrierOptions& options) {
  return collective(watch_->describe("barrier", 0, false),
                    [&] { return inner_->barrier(options); });
}

CheckedBackend::WorkPtr CheckedBackend::send(Tensors& tensors, int destination, int tag) {
  const std::string name = str_cat("send to rank ", destination);
  return point_to_point(watch_->describe(name.c_str(), bytes_of(tensors), false),
                        [&] { return inner_->send(tensors, destination, tag); });
}

CheckedBackend::WorkPtr CheckedBackend::recv(Tensors& tensors, int source, int tag) {
  const std::string name = str_cat("receive from rank ", source);
  return point_to_point(watch_->describe(name.c_str(), bytes_of(tensors), false),
                        [&] { return inner_->recv(tensors, source, tag); });
}

CheckedBackend::WorkPtr CheckedBackend::recvAnysource(Tensors& tensors, int tag) {
  return point_to_point(watch_->describe("receive from any rank", bytes_of(tensors), false),
                        [&] { return inner_->recvAnysource(tensors, tag); });
}

}  // namespace longhaul
