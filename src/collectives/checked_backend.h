// A c10d::Backend that forwards every operation to another one (Gloo) and turns what goes wrong
// into CollectiveErrors: which operation, how many bytes, bucket and step, and because of which
// rank. An operation that is pending when a rank is found gone fails at once.
//
// NCCL is not wrapped: its works carry CUDA events and its futures carry streams, which a wrapper
// would have to imitate; its own watchdog ends a process that hangs (nccl_backend.h).
//
// Thread safety: as the backend behind it: operations from one thread, in the same order on every
// rank.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <memory>
#include <string>
#include <vector>

#include "collectives/operation_watch.h"

namespace longhaul {

class CheckedBackend final : public c10d::Backend {
 public:
  // `links` may be null: then pending operations end when the backend notices, or after the grace
  // time.
  CheckedBackend(c10::intrusive_ptr<c10d::Backend> inner, std::shared_ptr<OperationWatch> watch,
                 std::shared_ptr<GroupLinks> links);
  ~CheckedBackend() override;

  const std::string getBackendName() const override { return inner_->getBackendName(); }
  void setTimeout(std::chrono::milliseconds timeout) override { inner_->setTimeout(timeout); }
  void setSequenceNumberForGroup() override { inner_->setSequenceNumberForGroup(); }
  uint64_t getSequenceNumberForGroup() override { return inner_->getSequenceNumberForGroup(); }
  // Makes pending and later operations fail.
  void abort() override;

  using Tensors = std::vector<at::Tensor>;
  using TensorLists = std::vector<std::vector<at::Tensor>>;
  using WorkPtr = c10::intrusive_ptr<c10d::Work>;

  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override;
  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  WorkPtr allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  WorkPtr allreduce_coalesced(Tensors& tensors,
                              const c10d::AllreduceCoalescedOptions& options) override;
  WorkPtr reduce(Tensors& tensors, const c10d::ReduceOptions& options) override;
  WorkPtr allgather(TensorLists& outputs, Tensors& inputs,
                    const c10d::AllgatherOptions& options) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input,
                          const c10d::AllgatherOptions& options) override;
  WorkPtr allgather_coalesced(TensorLists& outputs, Tensors& inputs,
                              const c10d::AllgatherOptions& options) override;
  WorkPtr allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::AllgatherOptions& options) override;
  WorkPtr gather(TensorLists& outputs, Tensors& inputs,
                 const c10d::GatherOptions& options) override;
  WorkPtr scatter(Tensors& outputs, TensorLists& inputs,
                  const c10d::ScatterOptions& options) override;
  WorkPtr reduce_scatter(Tensors& outputs, TensorLists& inputs,
                         const c10d::ReduceScatterOptions& options) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& options) override;
  WorkPtr reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::ReduceScatterOptions& options) override;
  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                        std::vector<int64_t>& input_splits,
                        const c10d::AllToAllOptions& options) override;
  WorkPtr alltoall(Tensors& outputs, Tensors& inputs,
                   const c10d::AllToAllOptions& options) override;
  WorkPtr send(Tensors& tensors, int destination, int tag) override;
  WorkPtr recv(Tensors& tensors, int source, int tag) override;
  WorkPtr recvAnysource(Tensors& tensors, int tag) override;
  WorkPtr barrier(const c10d::BarrierOptions& options) override;

 private:
  struct Outstanding;

  template <typename Call>
  WorkPtr collective(const std::string& what, const Call& call);
  template <typename Call>
  WorkPtr point_to_point(const std::string& what, const Call& call);

  const c10::intrusive_ptr<c10d::Backend> inner_;
  const std::shared_ptr<OperationWatch> watch_;
  const std::shared_ptr<GroupLinks> links_;
  const std::shared_ptr<Outstanding> outstanding_;
};

}  // namespace longhaul
