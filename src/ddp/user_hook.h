// A user's CommHook as the Reducer takes it, with what it gives checked.
#pragma once

#include <atomic>
#include <cstdint>
#include <torch/csrc/distributed/c10d/comm.hpp>

#include "longhaul/ddp/comm_hook.h"

namespace longhaul {

class UserHook final : public c10d::CommHookInterface {
 public:
  // `step` is read when a bucket is ready; its owner outlives this.
  UserHook(CommHook hook, const std::atomic<uint64_t>& step);

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override;
  at::Tensor parseHookResult(const c10::IValue& result) override;

 private:
  const CommHook hook_;
  const std::atomic<uint64_t>& step_;
};

}  // namespace longhaul
