// The tensors of a model that follow rank 0's: parameters at the start, buffers before forward
// passes.
#pragma once

#include <string>
#include <vector>

#include "longhaul/collectives/communicator.h"
#include "longhaul/ddp/options.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace longhaul {

// Each tensor once, by name, without those named in `ignored`.
NamedTensors parameters_of(const torch::nn::Module& module,
                           const std::vector<std::string>& ignored = {});
NamedTensors buffers_of(const torch::nn::Module& module,
                        const std::vector<std::string>& ignored = {});

// Why a tensor cannot take rank 0's values; empty when it can: "is Short, which ... ".
std::string why_not_broadcast(const at::Tensor& tensor);

// Sets all to those of `from`. Collective.
void broadcast(Communicator& communicator, const NamedTensors& tensors, Rank from = 0);
// As broadcast(), but backward passes of earlier forward passes may still use the tensors: they are
// not told, as in PyTorch since 2.15. Batch norm saves its running statistics, and in training does
// not read them in backward.
void broadcast_quietly(Communicator& communicator, const NamedTensors& tensors, Rank from = 0);
// As broadcast(), of those that differ from rank 0's on any rank only. Returns their number.
size_t broadcast_differing(Communicator& communicator, const NamedTensors& tensors);

// Collective. Throws ModelMismatchError, on every rank alike, when values differ between ranks.
void check_same_values(Communicator& communicator, const NamedTensors& tensors, uint64_t step);

// Of names, types and sizes: what must agree before a broadcast.
uint64_t layout_hash(const NamedTensors& tensors);
// Of parameters' numbers: what must agree before a reduction that leaves them out.
uint64_t layout_hash(const std::vector<size_t>& parameters);

}  // namespace longhaul
