#include "collectives/self_backend.h"

#include "longhaul/base/error.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using Tensors = SelfBackend::Tensors;
using TensorLists = SelfBackend::TensorLists;
using WorkPtr = SelfBackend::WorkPtr;

class DoneWork final : public c10d::Work {
 public:
  DoneWork(c10d::OpType type, Tensors outputs)
      : Work(0, type),
        outputs_(std::move(outputs)),
        future_(c10::make_intrusive<c10::ivalue::Future>(
            c10::ListType::create(c10::TensorType::get()), devices_of(outputs_))) {
    future_->markCompleted(c10::IValue(outputs_));
    finish();
  }

  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }
  Tensors result() override { return outputs_; }

 private:
  // A future of CUDA tensors remembers the streams they were made on.
  static std::vector<c10::Device> devices_of(const Tensors& tensors) {
    std::vector<c10::Device> devices;
    for (const at::Tensor& tensor : tensors) {
      if (tensor.is_cpu()) continue;
      if (devices.empty() || devices.back() != tensor.device()) devices.push_back(tensor.device());
    }
    return devices;
  }

  const Tensors outputs_;
  const c10::intrusive_ptr<c10::ivalue::Future> future_;
};

WorkPtr done(c10d::OpType type, const Tensors& outputs) {
  return c10::make_intrusive<DoneWork>(type, outputs);
}

void check_root(int64_t root) {
  if (root == 0) return;
  throw Error(ErrorKind::kInvalid, str_cat("root is rank ", root, " in a world of one"));
}

void check_sum(const c10d::ReduceOp& op) {
  if (op != c10d::ReduceOp::PREMUL_SUM) return;
  throw Error(ErrorKind::kInvalid, "premultiplied sums are for NCCL only");
}

// Copies inputs[i] to outputs[i], which has room for the one rank there is.
void copy_lists(const TensorLists& outputs, const Tensors& inputs) {
  TORCH_CHECK(outputs.size() == inputs.size(), "one output list for each input is needed");
  for (size_t i = 0; i < inputs.size(); ++i) {
    TORCH_CHECK(outputs[i].size() == 1, "a world of one has lists of one tensor");
    outputs[i][0].copy_(inputs[i].view_as(outputs[i][0]));
  }
}

void copy_each(const Tensors& outputs, const Tensors& inputs) {
  TORCH_CHECK(outputs.size() == inputs.size(), "one output for each input is needed");
  for (size_t i = 0; i < inputs.size(); ++i) outputs[i].copy_(inputs[i].view_as(outputs[i]));
}

Tensors flat(const TensorLists& lists) {
  Tensors tensors;
  for (const Tensors& list : lists) tensors.insert(tensors.end(), list.begin(), list.end());
  return tensors;
}

[[noreturn]] WorkPtr refuse_transfer() {
  throw Error(ErrorKind::kInvalid, "a world of one has no other rank to send to or receive from");
}

}  // namespace

WorkPtr SelfBackend::broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) {
  check_root(options.rootRank);
  return done(c10d::OpType::BROADCAST, tensors);
}

WorkPtr SelfBackend::allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) {
  check_sum(options.reduceOp);
  return done(c10d::OpType::ALLREDUCE, tensors);
}

WorkPtr SelfBackend::allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& options) {
  check_sum(options.reduceOp);
  return done(c10d::OpType::_ALLREDUCE_SPARSE, tensors);
}

WorkPtr SelfBackend::allreduce_coalesced(Tensors& tensors,
                                         const c10d::AllreduceCoalescedOptions& options) {
  check_sum(options.reduceOp);
  return done(c10d::OpType::ALLREDUCE_COALESCED, tensors);
}

WorkPtr SelfBackend::reduce(Tensors& tensors, const c10d::ReduceOptions& options) {
  check_root(options.rootRank);
  check_sum(options.reduceOp);
  return done(c10d::OpType::REDUCE, tensors);
}

WorkPtr SelfBackend::allgather(TensorLists& outputs, Tensors& inputs,
                               const c10d::AllgatherOptions&) {
  copy_lists(outputs, inputs);
  return done(c10d::OpType::ALLGATHER, flat(outputs));
}

WorkPtr SelfBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                     const c10d::AllgatherOptions&) {
  output.copy_(input.view_as(output));
  return done(c10d::OpType::_ALLGATHER_BASE, {output});
}

WorkPtr SelfBackend::allgather_coalesced(TensorLists& outputs, Tensors& inputs,
                                         const c10d::AllgatherOptions&) {
  TORCH_CHECK(outputs.size() == 1, "a world of one gathers one list");
  copy_each(outputs[0], inputs);
  return done(c10d::OpType::ALLGATHER_COALESCED, outputs[0]);
}

WorkPtr SelfBackend::allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                     const c10d::AllgatherOptions&) {
  copy_each(outputs, inputs);
  return done(c10d::OpType::COALESCED, outputs);
}

WorkPtr SelfBackend::gather(TensorLists& outputs, Tensors& inputs,
                            const c10d::GatherOptions& options) {
  check_root(options.rootRank);
  copy_lists(outputs, inputs);
  return done(c10d::OpType::GATHER, flat(outputs));
}

WorkPtr SelfBackend::scatter(Tensors& outputs, TensorLists& inputs,
                             const c10d::ScatterOptions& options) {
  check_root(options.rootRank);
  copy_each(outputs, flat(inputs));
  return done(c10d::OpType::SCATTER, outputs);
}

WorkPtr SelfBackend::reduce_scatter(Tensors& outputs, TensorLists& inputs,
                                    const c10d::ReduceScatterOptions& options) {
  check_sum(options.reduceOp);
  copy_each(outputs, flat(inputs));
  return done(c10d::OpType::REDUCE_SCATTER, outputs);
}

WorkPtr SelfBackend::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                          const c10d::ReduceScatterOptions& options) {
  check_sum(options.reduceOp);
  output.copy_(input.view_as(output));
  return done(c10d::OpType::_REDUCE_SCATTER_BASE, {output});
}

WorkPtr SelfBackend::reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                     const c10d::ReduceScatterOptions& options) {
  check_sum(options.reduceOp);
  copy_each(outputs, inputs);
  return done(c10d::OpType::COALESCED, outputs);
}

WorkPtr SelfBackend::alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>&,
                                   std::vector<int64_t>&, const c10d::AllToAllOptions&) {
  output.copy_(input.view_as(output));
  return done(c10d::OpType::ALLTOALL_BASE, {output});
}

WorkPtr SelfBackend::alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions&) {
  copy_each(outputs, inputs);
  return done(c10d::OpType::ALLTOALL, outputs);
}

WorkPtr SelfBackend::send(Tensors&, int, int) {
  return refuse_transfer();
}
WorkPtr SelfBackend::recv(Tensors&, int, int) {
  return refuse_transfer();
}
WorkPtr SelfBackend::recvAnysource(Tensors&, int) {
  return refuse_transfer();
}

WorkPtr SelfBackend::barrier(const c10d::BarrierOptions&) {
  return done(c10d::OpType::BARRIER, {});
}

}  // namespace longhaul
