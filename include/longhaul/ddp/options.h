// What DistributedDataParallel can be told. Names, defaults and meaning are PyTorch's
// (torch/nn/parallel/distributed.py) unless said otherwise.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "longhaul/codec/codec_spec.h"

namespace longhaul {

// One tensor per parameter, by the parameter's name.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct DistributedDataParallelOptions {
  // How gradients travel. kNone: PyTorch's own all-reduce, and its results to the last bit.
  CodecSpec codec = {};
  // Adds what a lossy codec dropped of a gradient to the same parameter's gradient of the next
  // step. For optimizers whose update is linear in the gradient: SGD, with momentum or without. It
  // makes Adam and its kin worse: they divide by the gradient's size, which the residual inflates,
  // and train well without it (docs/compression.md); a warning in the log says so. Takes fp32
  // parameters; keeps 4 bytes per parameter on the CPU.
  bool error_feedback = false;

  // Gradients are reduced in buckets of about so many MiB. Unset: 25, and a first bucket of 1 MiB
  // so that communication starts early. When set, the first bucket is as large as the others, as in
  // PyTorch, unless first_bucket_cap_mb says otherwise.
  std::optional<double> bucket_cap_mb = std::nullopt;
  std::optional<double> first_bucket_cap_mb = std::nullopt;
  // One size per bucket, the last one repeated; replaces the two above. Needs libtorch >= 2.11.
  std::vector<double> bucket_cap_mb_list = {};

  // Set it when some parameters get no gradient in some steps. Costs a walk over the graph per step
  // and asks that every tensor of the model's output can be found (for_each_tensor.h).
  bool find_unused_parameters = false;
  // With find_unused_parameters: buckets of which nothing is used in a step are not sent. All ranks
  // must leave out the same ones, or the step throws on every rank; each step waits for half a
  // round trip to know. Not within a Join.
  bool skip_all_reduce_unused_params = false;

  // Gradients live inside the buckets: one copy less. Then torch::optim's zero_grad() throws,
  // because it calls detach_() on each gradient first: call ddp.zero_grad() instead.
  bool gradient_as_bucket_view = false;

  // The same parameters are used in the same order in every step. Allows what the Reducer otherwise
  // refuses, as a parameter used several times in one backward pass.
  bool static_graph = false;

  // Buffers (running means and the like) are set to rank 0's before every forward pass.
  bool broadcast_buffers = true;

  // Parameters and buffers, by name ("head.bias"), that are none of DDP's business: neither set to
  // rank 0's nor reduced nor compared, so each rank may have its own.
  std::vector<std::string> params_and_buffers_to_ignore = {};
  // Parameters, by name, whose gradients travel together in one all-reduce at the end of backward
  // instead of in buckets; raw, whatever the codec. Not those with sparse gradients, and not all.
  std::vector<std::string> delay_all_reduce = {};

  // Gradients are summed and divided in this floating type, as with PyTorch's
  // _MixedPrecision(reduce_dtype). Unset: in their own. Takes codec none; the codecs bf16 and fp16
  // send as little and add in fp32.
  std::optional<at::ScalarType> reduce_dtype = std::nullopt;

  // Compare the models of all ranks and set parameters and buffers to rank 0's at the start.
  bool init_sync = true;
};

}  // namespace longhaul
