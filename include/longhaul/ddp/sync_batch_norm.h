// PyTorch's SyncBatchNorm: batch norm whose mean and variance are those of all ranks' batches
// together, in training. Same state_dict as torch::nn::BatchNorm1d, 2d, 3d, so their checkpoints
// load; in evaluation, and in a world of one, it is they.
//
//   struct NetImpl : torch::nn::Module {
//     explicit NetImpl(const longhaul::World& world)
//         : norm(register_module("norm", longhaul::SyncBatchNorm(64, world.process_group()))) {}
//     longhaul::SyncBatchNorm norm;
//   };
//
// Every rank runs the same layers in the same order, forward and backward, each with a batch of its
// own size, which may be empty. Statistics are kept in at least fp32 and merged as in Chan, Golub
// and LeVeque, "Updating formulae and a pairwise algorithm", 1979. Unlike PyTorch's it runs on CPU
// tensors too.
//
// Thread safety: as any module.
// Errors: CollectiveError from forward() or backward(); Error(kInvalid) for an input of fewer than
// two dimensions or other channels, for fewer than two values a channel over all ranks, and for a
// second derivative (create_graph), which would lack the other ranks' part.
#pragma once

#include <c10/util/intrusive_ptr.h>
#include <torch/nn/modules/batchnorm.h>

#include <memory>
#include <ostream>

#include "longhaul/collectives/communicator.h"

namespace longhaul {

class SyncBatchNormImpl final
    : public torch::nn::NormImplBase<0, SyncBatchNormImpl, torch::nn::BatchNormOptions> {
 public:
  // `group` reduces the statistics: world.process_group(), or one of
  // communicator->new_process_group() where ranks take different ways through the model, so that
  // gradients and statistics cannot meet.
  SyncBatchNormImpl(const torch::nn::BatchNormOptions& options,
                    c10::intrusive_ptr<c10d::ProcessGroup> group);

  at::Tensor forward(const at::Tensor& input);  // [batch, channels, ...] -> the same

  // Goes on with the tensors of another layer of the same options.
  void share(at::Tensor weight, at::Tensor bias, const at::Tensor& running_mean,
             const at::Tensor& running_var, const at::Tensor& num_batches_tracked);
  void pretty_print(std::ostream& stream) const override;

 protected:
  void _check_input_dim(const at::Tensor& input) override;

 private:
  double count_batch();  // returns how much this batch moves the running statistics
  at::Tensor normalize_together(const at::Tensor& input, double momentum);

  c10::intrusive_ptr<c10d::ProcessGroup> group_;
};
TORCH_MODULE(SyncBatchNorm);

// Replaces every BatchNorm1d, 2d and 3d of `model` by a SyncBatchNorm with the same tensors, as
// PyTorch's convert_sync_batchnorm. Only a torch::nn::Sequential holds its modules without their
// type; a batch norm elsewhere, a member `torch::nn::BatchNorm2d norm`, say, is an Error(kInvalid)
// that names it, and nothing is replaced: declare it a SyncBatchNorm. Collective: makes a process
// group for all of them.
void convert_sync_batch_norm(torch::nn::Module& model,
                             const std::shared_ptr<Communicator>& communicator);

}  // namespace longhaul
