// options.delay_all_reduce: gradients that are reduced together, in one all-reduce at the end of
// backward, instead of in the Reducer's buckets.
//
// Thread safety: one thread at a time.
#pragma once

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <vector>

#include "longhaul/collectives/communicator.h"

namespace longhaul {

class DelayedReduction {
 public:
  // Collective: a process group of its own, because the order against buckets may differ by rank.
  explicit DelayedReduction(Communicator& communicator);

  // Collective. Sets each gradient to the average over ranks; a rank without one counts as zero,
  // and where no rank has one it stays undefined.
  void reduce(const std::vector<at::Tensor>& parameters);
  // Collective: takes part with zeros, and leaves this rank's gradients alone.
  void reduce_zeros(const std::vector<at::Tensor>& parameters);

 private:
  std::vector<at::Tensor> sum(const std::vector<at::Tensor>& parameters,
                              const std::vector<at::Tensor>& gradients);

  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
};

}  // namespace longhaul
