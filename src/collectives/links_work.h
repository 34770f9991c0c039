// The Work of an operation over links. Its future holds the operation's outputs; it is completed on
// the backend's own thread, before wait() returns.
#pragma once

#include <torch/csrc/distributed/c10d/Work.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <stdexcept>
#include <utility>
#include <vector>

#include "longhaul/base/strings.h"

namespace longhaul {

class LinksWork final : public c10d::Work {
 public:
  using Tensors = std::vector<at::Tensor>;
  using TensorLists = std::vector<Tensors>;

  // `limit`: of a transfer, which is waited for so long when wait() names no time of its own. Zero:
  // the backend ends it in time.
  LinksWork(c10d::OpType type, TensorLists outputs, uint64_t sequence,
            std::chrono::milliseconds limit = std::chrono::milliseconds(0), int source = -1)
      : Work(-1, type),
        outputs_(std::move(outputs)),
        sequence_(sequence),
        limit_(limit),
        source_(source),
        future_(c10::make_intrusive<c10::ivalue::Future>(type_of(outputs_))) {}

  bool wait(std::chrono::milliseconds timeout) override {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto over = [this] { return completed_ || given_up_; };
    const bool own_limit = timeout == kNoTimeout && limit_.count() > 0;
    if (timeout == kNoTimeout && !own_limit) {
      cv_.wait(lock, over);
    } else if (!cv_.wait_for(lock, own_limit ? limit_ : timeout, over)) {
      throw std::runtime_error(
          str_cat("timed out after ", (own_limit ? limit_ : timeout).count(), " ms"));
    }
    if (!completed_) return false;
    if (exception_) std::rethrow_exception(exception_);
    return true;
  }
  // Whoever waits comes back with false. The transfer itself goes on.
  void abort() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      given_up_ = true;
    }
    cv_.notify_all();
  }

  Tensors result() override {
    TORCH_CHECK(isCompleted(), "the operation has not ended, so it has no result yet");
    TORCH_CHECK(outputs_.size() <= 1, "the result is a list of lists: use getFuture()");
    return outputs_.empty() ? Tensors() : outputs_[0];
  }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  int sourceRank() const override { return source_; }
  uint64_t getSequencenumber() const override { return sequence_; }

  // Once counts. The future first: whoever has waited finds its value.
  void end(const std::exception_ptr& error) {
    if (ended_.exchange(true)) return;
    if (error) {
      future_->setError(error);
    } else if (outputs_.size() > 1) {
      future_->markCompleted(c10::IValue(outputs_));
    } else {
      future_->markCompleted(c10::IValue(outputs_.empty() ? Tensors() : outputs_[0]));
    }
    finish(error);
  }

 private:
  static c10::TypePtr type_of(const TensorLists& outputs) {
    c10::TypePtr list = c10::ListType::create(c10::TensorType::get());
    return outputs.size() > 1 ? c10::ListType::create(list) : list;
  }

  const TensorLists outputs_;
  const uint64_t sequence_;
  const std::chrono::milliseconds limit_;
  const int source_;
  const c10::intrusive_ptr<c10::ivalue::Future> future_;
  bool given_up_ = false;
  std::atomic<bool> ended_ = false;
};

}  // namespace longhaul
