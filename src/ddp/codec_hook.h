// DDP's communication hook for compressed buckets: starts the reduction and returns its future at
// once, so that backward goes on.
#pragma once

#include <torch/csrc/distributed/c10d/comm.hpp>

#include <atomic>
#include <cstdint>
#include <memory>

#include "ddp/auto_codec.h"
#include "ddp/error_feedback.h"
#include "longhaul/collectives/compressed_allreduce.h"

namespace longhaul {

class CodecHook final : public c10d::CommHookInterface {
 public:
  // `step` is read when a bucket is ready. It belongs to the owner of the Reducer that this hook is
  // registered at, and lives longer than both.
  CodecHook(const std::shared_ptr<Communicator>& communicator, const CodecSpec& spec,
            const std::atomic<uint64_t>& step, std::shared_ptr<ErrorFeedback> error_feedback);

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override;
  at::Tensor parseHookResult(const c10::IValue& result) override;

 private:
  // PyTorch's own all-reduce, as without a hook.
  c10::intrusive_ptr<c10::ivalue::Future> average_raw(at::Tensor buffer);

  const std::shared_ptr<Communicator> communicator_;
  const double scale_;
  const std::atomic<uint64_t>& step_;
  const std::shared_ptr<ErrorFeedback> error_feedback_;  // null: not asked for
  std::unique_ptr<AutoCodec> auto_codec_;                // null: the user named the codec
  CompressedAllreduce allreduce_;
};

}  // namespace longhaul
