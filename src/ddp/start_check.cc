#include "ddp/start_check.h"

#include <torch/nn/module.h>

#include <algorithm>

#include "ddp/model_states.h"
#include "ddp/names.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"

namespace longhaul {
namespace {

bool codec_can_carry(const CodecSpec& codec, at::ScalarType type) {
  switch (type) {
    case at::kFloat:
    case at::kDouble:
      return true;
    case at::kBFloat16:
      return check_supports(codec, ElementType::kBFloat16).ok();
    case at::kHalf:
      return check_supports(codec, ElementType::kFloat16).ok();
    default:
      return false;
  }
}

std::string find_feedback_problem(const DistributedDataParallelOptions& options) {
  if (!options.error_feedback) return "";
  if (options.codec.lossless())
    return str_cat("codec ", options.codec.str(),
                   " loses nothing that error_feedback could add: leave it off");
  // With larger steps all elements of a block may be rounded to 0, step after step, while its
  // residual grows.
  constexpr float kLargestStep = 2;
  if (std::max(options.codec.step, options.codec.result) > kLargestStep)
    return str_cat("error_feedback takes steps up to ", kLargestStep, ", not codec ",
                   options.codec.str());
  return "";
}

// Written so that NaN is refused too.
std::string find_cap_problem(const DistributedDataParallelOptions& options) {
  for (const double mb :
       {options.bucket_cap_mb.value_or(1), options.first_bucket_cap_mb.value_or(1)})
    if (!(mb > 0)) return str_cat("bucket caps must be above 0 MiB, not ", mb);
  for (const double mb : options.bucket_cap_mb_list)
    if (!(mb > 0)) return str_cat("bucket_cap_mb_list must hold sizes above 0 MiB, not ", mb);
  return "";
}

// A device without an index is any of its type.
bool lies_on(const at::Tensor& tensor, c10::Device device) {
  const c10::Device own = tensor.device();
  const bool any = !device.has_index() || !own.has_index();
  return own.type() == device.type() && (any || own.index() == device.index());
}

std::string find_parameter_problem(const TrainedParameters& trained, size_t i,
                                   const DistributedDataParallelOptions& options,
                                   c10::Device device) {
  const bool compressed = options.codec.kind != CodecSpec::Kind::kNone;
  const at::Tensor& parameter = trained.tensors[i];
  const std::string& name = trained.names[i];
  if (!lies_on(parameter, device))
    return str_cat("parameter '", name, "' is on ", parameter.device(),
                   " but this world's device is ", device, ": call model->to(world.device())");
  if (compressed && trained.expect_sparse[i])
    return str_cat("codec ", options.codec.str(), " cannot carry the sparse gradient of '", name,
                   "': use codec none");
  if (options.error_feedback && parameter.scalar_type() != at::kFloat)
    return str_cat("error_feedback takes float parameters, and '", name, "' is ",
                   parameter.scalar_type());
  if (compressed && !codec_can_carry(options.codec, parameter.scalar_type()))
    return str_cat("codec ", options.codec.str(), " cannot carry ", parameter.scalar_type(),
                   " parameter '", name, "': use codec none");
  return "";
}

// Whether there is a parameter, or a buffer where those count, of each name.
std::string find_name_problem(const char* option, const std::vector<std::string>& names,
                              const torch::nn::Module& module, bool or_buffer) {
  const auto parameters =
      names.empty() ? torch::OrderedDict<std::string, at::Tensor>() : module.named_parameters();
  for (const std::string& name : names) {
    if (parameters.contains(name) || (or_buffer && module.named_buffers().contains(name))) continue;
    return str_cat(option, " names '", name, "', and the model has no such parameter",
                   or_buffer ? " or buffer" : "");
  }
  return "";
}

std::string find_left_out_problem(const torch::nn::Module& module,
                                  const DistributedDataParallelOptions& options) {
  std::string problem = find_name_problem("params_and_buffers_to_ignore",
                                          options.params_and_buffers_to_ignore, module, true);
  if (problem.empty())
    problem = find_name_problem("delay_all_reduce", options.delay_all_reduce, module, false);
  for (const std::string& name : options.delay_all_reduce)
    if (is_among(options.params_and_buffers_to_ignore, name))
      problem = str_cat("parameter '", name, "' is to be ignored and delayed at once");
  return problem;
}

std::string find_reduce_dtype_problem(const TrainedParameters& trained,
                                      const DistributedDataParallelOptions& options) {
  if (!options.reduce_dtype) return "";
  if (!c10::isFloatingType(*options.reduce_dtype))
    return str_cat("reduce_dtype is ", *options.reduce_dtype, ", which is no floating type");
  if (options.codec.kind != CodecSpec::Kind::kNone)
    return str_cat("reduce_dtype takes codec none, not codec ", options.codec.str());
  for (size_t i = 0; i < trained.tensors.size(); ++i) {
    if (trained.expect_sparse[i] || !trained.tensors[i].is_floating_point())
      return str_cat("reduce_dtype cannot carry the gradient of '", trained.names[i],
                     "', which is sparse or not of a floating type");
  }
  return "";
}

// What could not be set to rank 0's: with init_sync parameters, with broadcast_buffers buffers. It
// is looked for before the first broadcast, which would fail on this rank and leave the others
// waiting.
std::string find_state_problem(const torch::nn::Module& module,
                               const DistributedDataParallelOptions& options) {
  if (options.init_sync) {
    for (const auto& [name, parameter] :
         parameters_of(module, options.params_and_buffers_to_ignore)) {
      const std::string why = why_not_broadcast(parameter);
      // Complex gradients are PyTorch's to take or refuse.
      if (!why.empty() && !parameter.is_complex()) return str_cat("parameter '", name, "' ", why);
    }
  }
  return options.broadcast_buffers
             ? find_buffer_problem(buffers_of(module, options.params_and_buffers_to_ignore))
             : "";
}

}  // namespace

std::string find_problem(const torch::nn::Module& module, const TrainedParameters& trained,
                         const DistributedDataParallelOptions& options, c10::Device device,
                         int size) {
  std::string problem = find_left_out_problem(module, options);
  if (!problem.empty()) return problem;
  if (trained.tensors.empty() && !options.delay_all_reduce.empty())
    return "delay_all_reduce leaves no parameter for buckets: leave one out of it";
  if (trained.tensors.empty())
    return "the model has no parameter that requires a gradient, so there is nothing to reduce";
  problem = find_feedback_problem(options);
  for (size_t i = 0; problem.empty() && i < trained.tensors.size(); ++i)
    problem = find_parameter_problem(trained, i, options, device);
  if (problem.empty()) problem = find_cap_problem(options);
  if (problem.empty()) problem = find_reduce_dtype_problem(trained, options);
  if (problem.empty() && size > 1) problem = find_state_problem(module, options);
  return problem;
}

std::string find_buffer_problem(const NamedTensors& buffers) {
  for (const auto& [name, buffer] : buffers) {
    const std::string why = why_not_broadcast(buffer);
    if (!why.empty())
      return str_cat("buffer '", name, "' ", why, "; or set broadcast_buffers to false");
  }
  return "";
}

}  // namespace longhaul
