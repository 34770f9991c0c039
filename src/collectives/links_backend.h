// c10d's collectives for CPU tensors over links (src/links): every rank talks to every other one
// directly, so that an operation takes the fewest round trips there can be. Results have the same
// bits on all ranks; those of all-reduces have the bits of PyTorch's Gloo backend (gloo_order.h).
//
// What is wrong with a call itself is a c10::Error out of the call, before anything is sent and
// before the operation gets its number, so that ranks stay in step. What goes wrong later is in the
// Work.
//
// Differences from Gloo, each where Gloo's way loses data: strides are respected, a sum of bools is
// "or", reduce() leaves the tensors of ranks that are not the root as they were, reduce_scatter()
// needs no wait() to write its output. Sparse tensors are for all-reduce alone, as with Gloo. Not
// here: recvAnysource().
//
// Thread safety: any thread; operations are numbered in the order of their calls, which must be the
// same on all ranks.
#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include <atomic>
#include <memory>
#include <vector>

#include "collectives/link_operations.h"
#include "collectives/links_work.h"

namespace longhaul {

class LinksBackend final : public c10d::Backend {
 public:
  using Tensors = std::vector<at::Tensor>;
  using TensorLists = std::vector<std::vector<at::Tensor>>;
  using WorkPtr = c10::intrusive_ptr<c10d::Work>;

  LinksBackend(Rank rank, int size, std::shared_ptr<LinkOperations> operations,
               std::chrono::milliseconds timeout)
      : Backend(rank, size), operations_(std::move(operations)), timeout_(timeout) {}
  ~LinksBackend() override;

  const std::string getBackendName() const override { return "links"; }
  void setTimeout(std::chrono::milliseconds timeout) override { timeout_ = timeout; }
  void setSequenceNumberForGroup() override {}
  uint64_t getSequenceNumberForGroup() override { return sequence_; }
  void abort() override;

  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override;
  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override;
  WorkPtr allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    return allreduce(tensors, options);
  }
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
  WorkPtr barrier(const c10d::BarrierOptions& options) override;

 private:
  // What a collective is while its first transfers are given.
  struct Call {
    std::shared_ptr<LinkOperation> operation;
    c10::intrusive_ptr<LinksWork> work;
  };
  // `keep`: tensors whose memory is used. `last`: done with no gradients in mind before the work
  // ends well, where there is something left to do.
  Call begin(c10d::OpType type, TensorLists results, std::chrono::milliseconds timeout,
             Tensors keep, std::function<void()> last = nullptr);
  WorkPtr made(const Call& call);
  WorkPtr sum_sparse(Tensors& tensors, const c10d::AllreduceOptions& options);
  void reduce_all(const Call& call, const at::Tensor& flat, const c10d::ReduceOp& op);
  // What this rank gives each and gets of each; its own is copied. Sizes in bytes.
  void exchange(const Call& call, const std::vector<ByteSpan>& to,
                const std::vector<MutableByteSpan>& from);
  WorkPtr gather_all(c10d::OpType type, TensorLists results, const Tensors& inputs,
                     const TensorLists& by_rank, std::chrono::milliseconds timeout);
  WorkPtr scatter_sums(c10d::OpType type, const Tensors& outputs, const TensorLists& by_rank,
                       const c10d::ReduceOp& op, std::chrono::milliseconds timeout);
  WorkPtr transfer(c10d::OpType type, Tensors& tensors, int peer, int tag);
  void check_root(const char* operation, int64_t root) const;

  std::shared_ptr<LinkOperations> operations_;
  std::atomic<std::chrono::milliseconds> timeout_;
  std::atomic<uint64_t> sequence_ = 0;
};

}  // namespace longhaul
