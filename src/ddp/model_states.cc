#include "ddp/model_states.h"

#include <ATen/MemoryOverlap.h>
#include <torch/nn/module.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/comm.hpp>

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "ddp/names.h"
#include "longhaul/base/strings.h"
#include "longhaul/ddp/model_mismatch_error.h"

namespace longhaul {
namespace {

// What is broadcast at a time, as in PyTorch.
constexpr size_t kBroadcastBytes = size_t{250} * 1024 * 1024;

constexpr uint64_t kHashStart = 0xcbf29ce484222325;
constexpr uint64_t kHashFactor = 0x100000001b3;

NamedTensors each_once(const torch::OrderedDict<std::string, at::Tensor>& named,
                       const std::vector<std::string>& ignored) {
  NamedTensors tensors;
  std::unordered_set<c10::TensorImpl*> seen;
  for (const auto& item : named) {
    if (is_among(ignored, item.key())) continue;
    if (item.value().defined() && seen.insert(item.value().unsafeGetTensorImpl()).second)
      tensors.emplace_back(item.key(), item.value());
  }
  return tensors;
}

// FNV-1a over words of 8 bytes instead of bytes: the same on every machine (all are little-endian,
// bytes.h). A multiplication carries only upwards, so the high bits are mixed into the low ones
// after each; else a difference in a word's top bit would stay there, where another one can cancel
// it.
uint64_t hash_bytes(const void* data, size_t bytes, uint64_t hash) {
  const auto* at = static_cast<const uint8_t*>(data);
  for (; bytes >= sizeof(uint64_t); bytes -= sizeof(uint64_t), at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, at, sizeof(word));
    hash = (hash ^ word) * kHashFactor;
    hash ^= hash >> 29;
  }
  for (; bytes > 0; --bytes, ++at) hash = (hash ^ *at) * kHashFactor;
  return hash;
}

uint64_t hash_of_values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kCPU).contiguous();
  return hash_bytes(flat.const_data_ptr(), flat.nbytes(), kHashStart);
}

// By rank: a hash of each tensor's values. Every rank calls it with as many tensors; that the
// models have the same ones was checked before (agree() in ddp_core.cc). Equal hashes count as
// equal values: with 64 bits a false match is not to be expected.
std::vector<at::Tensor> gather_hashes(Communicator& communicator, const NamedTensors& tensors) {
  at::Tensor mine = at::empty({static_cast<int64_t>(tensors.size())}, at::kLong);
  for (size_t i = 0; i < tensors.size(); ++i)
    mine.mutable_data_ptr<int64_t>()[i] = static_cast<int64_t>(hash_of_values(tensors[i].second));
  std::vector<std::vector<at::Tensor>> all(1);
  for (Rank rank = 0; rank < communicator.size(); ++rank) all[0].push_back(at::empty_like(mine));
  std::vector<at::Tensor> input{mine};
  communicator.process_group()->allgather(all, input)->wait();
  return all[0];
}

// The first rank whose tensor has other values than rank 0's.
std::optional<Rank> first_to_differ(const std::vector<at::Tensor>& hashes, size_t tensor) {
  for (size_t rank = 1; rank < hashes.size(); ++rank) {
    if (hashes[rank].const_data_ptr<int64_t>()[tensor] !=
        hashes[0].const_data_ptr<int64_t>()[tensor])
      return static_cast<Rank>(rank);
  }
  return std::nullopt;
}

// The types that Gloo's collectives are instantiated for, and bool, which is sent as bytes.
bool has_gloo_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
    case at::kDouble:
    case at::kHalf:
    case at::kBFloat16:
    case at::kChar:
    case at::kByte:
    case at::kBool:
    case at::kInt:
    case at::kLong:
      return true;
    default:
      return false;
  }
}

}  // namespace

NamedTensors parameters_of(const torch::nn::Module& module,
                           const std::vector<std::string>& ignored) {
  return each_once(module.named_parameters(), ignored);
}

NamedTensors buffers_of(const torch::nn::Module& module, const std::vector<std::string>& ignored) {
  return each_once(module.named_buffers(), ignored);
}

std::string why_not_broadcast(const at::Tensor& tensor) {
  if (tensor.layout() != at::kStrided)
    return str_cat("has the layout ", tensor.layout(), ", and only dense tensors can be broadcast");
  if (!has_gloo_type(tensor.scalar_type()))
    return str_cat("is ", tensor.scalar_type(),
                   ", which cannot be broadcast: use float, double, half, bfloat16, int8, uint8, "
                   "bool, int32 or int64");
  if (at::has_internal_overlap(tensor) == at::MemOverlap::Yes)
    return "has several elements in one place (it was expanded), so nothing can be written into "
           "it: register its contiguous() copy";
  if (tensor.is_inference())
    return "was made in inference mode, so nothing can be written into it: register its clone()";
  return "";
}

void broadcast(Communicator& communicator, const NamedTensors& tensors, Rank from) {
  std::vector<at::Tensor> states;
  states.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) states.push_back(tensor.detach());
  if (!states.empty())
    c10d::broadcast_coalesced(communicator.process_group(), states, kBroadcastBytes, from);
}

// Autograd compares the version of a tensor that was saved for backward with its version in
// backward, and fails when they differ. variable_data() shares the memory and has a version counter
// of its own, so the write is not counted on the buffer.
void broadcast_quietly(Communicator& communicator, const NamedTensors& tensors, Rank from) {
  NamedTensors quiet;
  quiet.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) quiet.emplace_back(name, tensor.variable_data());
  broadcast(communicator, quiet, from);
}

size_t broadcast_differing(Communicator& communicator, const NamedTensors& tensors) {
  const std::vector<at::Tensor> hashes = gather_hashes(communicator, tensors);
  NamedTensors differing;
  for (size_t i = 0; i < tensors.size(); ++i)
    if (first_to_differ(hashes, i)) differing.push_back(tensors[i]);
  broadcast(communicator, differing);
  return differing.size();
}

void check_same_values(Communicator& communicator, const NamedTensors& tensors, uint64_t step) {
  const std::vector<at::Tensor> hashes = gather_hashes(communicator, tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (const std::optional<Rank> rank = first_to_differ(hashes, i))
      throw ModelMismatchError(
          str_cat("models differ between ranks: parameter '", tensors[i].first, "' of rank ", *rank,
                  " has other values than rank 0's in step ", step,
                  ", and was changed there in another way since the step before: load a checkpoint "
                  "on every rank, or make a new DistributedDataParallel"),
          *rank);
  }
}

uint64_t layout_hash(const NamedTensors& tensors) {
  uint64_t hash = kHashStart;
  for (const auto& [name, tensor] : tensors) {
    hash = hash_bytes(name.data(), name.size(), hash);
    const auto type = static_cast<int64_t>(tensor.scalar_type());
    hash = hash_bytes(&type, sizeof(type), hash);
    hash = hash_bytes(tensor.sizes().data(), tensor.sizes().size() * sizeof(int64_t), hash);
  }
  return hash;
}

uint64_t layout_hash(const std::vector<size_t>& parameters) {
  return hash_bytes(parameters.data(), parameters.size() * sizeof(size_t), kHashStart);
}

}  // namespace longhaul
