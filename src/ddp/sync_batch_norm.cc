#include "longhaul/ddp/sync_batch_norm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/modules/container/any.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "longhaul/base/error.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Group = c10::intrusive_ptr<c10d::ProcessGroup>;

// All dimensions but the channels'.
std::vector<int64_t> batch_dimensions(const Tensor& x) {
  std::vector<int64_t> dimensions;
  for (int64_t i = 0; i < x.dim(); ++i)
    if (i != 1) dimensions.push_back(i);
  return dimensions;
}

// A value per channel, as something that can be combined with `x`.
Tensor spread(const Tensor& per_channel, const Tensor& x) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[1] = -1;
  return per_channel.view(shape);
}

// The type that batches are summed and normalized in: at least fp32, as in PyTorch.
at::ScalarType statistics_type(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16 ? at::kFloat : type;
}

// Count, mean and sum of squared deviations of one rank's batch, [1 + 2 channels]. They travel in
// one tensor of fp64, in which counts are exact up to 2^53 and merging loses next to nothing. An
// empty batch has a count of 0 and takes part all the same, because the all-gather needs every
// rank; the mean of nothing would be NaN.
Tensor local_statistics(const Tensor& x) {
  const int64_t channels = x.size(1);
  Tensor packed = at::zeros({1 + 2 * channels}, x.options().dtype(at::kDouble));
  const int64_t count = x.numel() / channels;
  if (count == 0) return packed;
  const auto [variance, mean] =
      at::var_mean(x.to(statistics_type(x.scalar_type())), batch_dimensions(x), /*unbiased=*/false);
  packed.narrow(0, 0, 1).fill_(static_cast<double>(count));
  packed.narrow(0, 1, channels).copy_(mean);
  packed.narrow(0, 1 + channels, channels).copy_(variance).mul_(count);
  return packed;
}

struct Statistics {
  double count = 0;
  Tensor mean;        // fp64, as the next
  Tensor deviations;  // sum of squares
};

// Two batches at a time, by the formulae of Chan, Golub and LeVeque: sums of squares would cancel
// where the mean is large against the deviation. In rank order, so that all ranks get the same
// bits.
Statistics merge(const std::vector<Tensor>& of_ranks, int64_t channels) {
  Statistics all;
  for (const Tensor& packed : of_ranks) {
    const auto count = packed[0].item<double>();
    if (count == 0) continue;
    const Tensor mean = packed.narrow(0, 1, channels);
    const Tensor deviations = packed.narrow(0, 1 + channels, channels);
    if (all.count == 0) {
      all = {count, mean, deviations};
      continue;
    }
    const double sum = all.count + count;
    const Tensor delta = mean - all.mean;
    all.deviations = all.deviations + deviations + delta.square() * (all.count * count / sum);
    all.mean = all.mean + delta * (count / sum);
    all.count = sum;
  }
  return all;
}

Statistics gather_statistics(const Tensor& x, const Group& group) {
  std::vector<Tensor> mine = {local_statistics(x)};
  std::vector<std::vector<Tensor>> outputs(1);
  for (int rank = 0; rank < group->getSize(); ++rank) outputs[0].push_back(at::empty_like(mine[0]));
  group->allgather(outputs, mine)->wait();
  const Statistics all = merge(outputs[0], x.size(1));
  if (all.count < 2)
    throw Error(ErrorKind::kInvalid,
                str_cat("SyncBatchNorm needs two values per channel over all ranks, and there are ",
                        all.count, ": the batches are too small to train on"));
  return all;
}

// A Function takes no undefined tensor.
std::optional<Tensor> if_defined(const Tensor& tensor) {
  return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
}

struct Normalize : torch::autograd::Function<Normalize> {
  static Tensor forward(AutogradContext* context, const Tensor& input,
                        const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                        const Tensor& mean, const Tensor& inverse_deviation, double count,
                        const Group& group) {
    // What backward needs is saved, the count of all ranks' values and the group among it. A
    // capsule is how saved_data holds an object that is no tensor.
    context->save_for_backward({input, weight.value_or(Tensor()), mean, inverse_deviation});
    context->saved_data["count"] = count;
    context->saved_data["group"] = c10::IValue::make_capsule(group);
    const Tensor x = input.to(mean.scalar_type());
    Tensor y = (x - spread(mean, x)) * spread(inverse_deviation, x);
    if (weight) y = y * spread(*weight, x) + spread(*bias, x);
    return y.to(input.scalar_type());
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    // The engine enables it in backward for create_graph alone.
    if (at::GradMode::is_enabled())
      throw Error(ErrorKind::kInvalid,
                  "SyncBatchNorm has no second derivative: leave create_graph off");
    const auto saved = context->get_saved_variables();
    const Tensor& mean = saved[2];
    const Tensor& inverse_deviation = saved[3];
    const Tensor x = saved[0].to(mean.scalar_type());
    const Tensor dy = gradients[0].to(mean.scalar_type());
    const Tensor deviation = x - spread(mean, x);
    const auto dimensions = batch_dimensions(x);
    const Tensor sum_dy = dy.sum(dimensions);
    const Tensor sum_dy_deviation = (dy * deviation).sum(dimensions);

    // Gradients of weight and bias are those of this rank's batch: DDP averages them as it does all
    // others.
    variable_list result(7);  // one per argument of forward()
    if (saved[1].defined()) {
      result[1] = (sum_dy_deviation * inverse_deviation).to(saved[1].scalar_type());
      result[2] = sum_dy.to(saved[1].scalar_type());
    }
    // Nobody needs the input's gradient when this is the first layer. That is so on every rank,
    // because all have the same model: all skip the all-reduce or none.
    if (!context->needs_input_grad(0)) return result;
    const double count = context->saved_data["count"].toDouble();
    const auto group = c10::static_intrusive_pointer_cast<c10d::ProcessGroup>(
        context->saved_data["group"].toCapsule());
    // Every value of the batch moves mean and variance of all ranks, so the input's gradient needs
    // the sums over all ranks. The formula is that of batch norm, with means over all values.
    std::vector<Tensor> sums = {at::cat({sum_dy, sum_dy_deviation})};
    group->allreduce(sums)->wait();
    const Tensor means = sums[0] / count;
    const int64_t channels = x.size(1);
    Tensor scale = inverse_deviation;
    if (saved[1].defined()) scale = scale * saved[1].to(scale.scalar_type());
    const Tensor slope = means.narrow(0, channels, channels) * inverse_deviation.square();
    const Tensor dx =
        (dy - spread(means.narrow(0, 0, channels), x) - deviation * spread(slope, x)) *
        spread(scale, x);
    result[0] = dx.to(saved[0].scalar_type());
    return result;
  }
};

template <typename Visit>
void visit_children(torch::nn::Module& module, const std::string& path, const Visit& visit) {
  for (const auto& child : module.named_children()) {
    const std::string name = path.empty() ? child.key() : path + "." + child.key();
    visit(module, name, child);
    visit_children(*child.value(), name, visit);
  }
}

template <typename Norm>
std::shared_ptr<SyncBatchNormImpl> converted_from(const torch::nn::Module& module,
                                                  const Group& group) {
  const auto* norm = dynamic_cast<const Norm*>(&module);
  if (norm == nullptr) return nullptr;
  auto converted = std::make_shared<SyncBatchNormImpl>(norm->options, group);
  converted->share(norm->weight, norm->bias, norm->running_mean, norm->running_var,
                   norm->num_batches_tracked);
  converted->train(norm->is_training());
  return converted;
}

// Null when `module` is no batch norm.
std::shared_ptr<SyncBatchNormImpl> converted(const torch::nn::Module& module, const Group& group) {
  if (auto one = converted_from<torch::nn::BatchNorm1dImpl>(module, group)) return one;
  if (auto two = converted_from<torch::nn::BatchNorm2dImpl>(module, group)) return two;
  return converted_from<torch::nn::BatchNorm3dImpl>(module, group);
}

bool is_batch_norm(const torch::nn::Module& module) {
  return dynamic_cast<const torch::nn::BatchNorm1dImpl*>(&module) != nullptr ||
         dynamic_cast<const torch::nn::BatchNorm2dImpl*>(&module) != nullptr ||
         dynamic_cast<const torch::nn::BatchNorm3dImpl*>(&module) != nullptr;
}

void check_convertible(torch::nn::Module& model) {
  const auto refuse = [](const std::string& name, const torch::nn::Module& norm) {
    throw Error(ErrorKind::kInvalid,
                str_cat("'", name, "' is a ", norm.name(),
                        " outside of a Sequential, whose place has that type: declare it a "
                        "longhaul::SyncBatchNorm; nothing was converted"));
  };
  if (is_batch_norm(model)) refuse("the model itself", model);
  visit_children(model, "",
                 [&](torch::nn::Module& parent, const std::string& name, const auto& child) {
                   if (is_batch_norm(*child.value()) &&
                       dynamic_cast<torch::nn::SequentialImpl*>(&parent) == nullptr)
                     refuse(name, *child.value());
                 });
}

void convert_sequential(torch::nn::SequentialImpl& sequential, const Group& group,
                        std::map<torch::nn::Module*, std::shared_ptr<SyncBatchNormImpl>>& known) {
  auto place = sequential.begin();
  for (const auto& child : sequential.named_children()) {
    if (is_batch_norm(*child.value())) {
      auto& one = known[child.value().get()];  // the same layer may stand in several places
      if (!one) one = converted(*child.value(), group);
      *place = torch::nn::AnyModule(one);
      sequential.replace_module(child.key(), one);
    }
    ++place;
  }
}

}  // namespace

SyncBatchNormImpl::SyncBatchNormImpl(const torch::nn::BatchNormOptions& options, Group group)
    : NormImplBase(options), group_(std::move(group)) {
  if (!group_) throw Error(ErrorKind::kInvalid, "SyncBatchNorm needs a process group, not null");
}

Tensor SyncBatchNormImpl::forward(const Tensor& input) {
  _check_input_dim(input);
  const double momentum = count_batch();
  if (is_training() && group_->getSize() > 1) return normalize_together(input, momentum);
  return at::batch_norm(input, weight, bias, running_mean, running_var,
                        is_training() || !running_mean.defined(), momentum, options.eps(),
                        at::globalContext().userEnabledCuDNN());
}

// The tensors themselves are taken over, not copies, so an optimizer that holds the parameters goes
// on with them. Buffers keep their registered tensor, whose memory becomes that of the other
// layer's.
void SyncBatchNormImpl::share(Tensor weight, Tensor bias, const Tensor& running_mean,
                              const Tensor& running_var, const Tensor& num_batches_tracked) {
  parameters_["weight"] = this->weight = std::move(weight);
  parameters_["bias"] = this->bias = std::move(bias);
  if (!running_mean.defined()) return;
  this->running_mean.set_data(running_mean);
  this->running_var.set_data(running_var);
  this->num_batches_tracked.set_data(num_batches_tracked);
}

void SyncBatchNormImpl::pretty_print(std::ostream& stream) const {
  stream << "longhaul::SyncBatchNorm(" << options.num_features() << ")";
}

void SyncBatchNormImpl::_check_input_dim(const Tensor& input) {
  if (input.dim() < 2 || input.size(1) != options.num_features())
    throw Error(ErrorKind::kInvalid, str_cat("SyncBatchNorm takes [batch, ", options.num_features(),
                                             ", ...], not ", input.sizes()));
}

// Without a momentum the running statistics are the plain mean over all batches, as in PyTorch: the
// n-th batch moves them by 1 / n.
double SyncBatchNormImpl::count_batch() {
  if (!is_training() || !num_batches_tracked.defined()) return options.momentum().value_or(0);
  num_batches_tracked += 1;
  return options.momentum() ? *options.momentum() : 1.0 / num_batches_tracked.item<double>();
}

Tensor SyncBatchNormImpl::normalize_together(const Tensor& input, double momentum) {
  const auto type = statistics_type(input.scalar_type());
  Tensor mean, inverse_deviation;
  double count = 0;
  {
    const at::NoGradGuard no_grad;
    const Statistics all = gather_statistics(input, group_);
    count = all.count;
    mean = all.mean.to(type);
    inverse_deviation = (all.deviations / count + options.eps()).rsqrt().to(type);
    // The running variance is the unbiased one, as in PyTorch; what normalizes this batch is not.
    if (running_mean.defined()) {
      running_mean.mul_(1 - momentum).add_(mean, momentum);
      running_var.mul_(1 - momentum).add_((all.deviations / (count - 1)).to(type), momentum);
    }
  }
  return Normalize::apply(input, if_defined(weight), if_defined(bias), mean, inverse_deviation,
                          count, group_);
}

void convert_sync_batch_norm(torch::nn::Module& model,
                             const std::shared_ptr<Communicator>& communicator) {
  // All is checked before anything is replaced.
  check_convertible(model);
  const Group group = communicator->new_process_group("sync_batch_norm");
  std::map<torch::nn::Module*, std::shared_ptr<SyncBatchNormImpl>> known;
  for (const auto& module : model.modules())
    if (auto* sequential = dynamic_cast<torch::nn::SequentialImpl*>(module.get()))
      convert_sequential(*sequential, group, known);
}

}  // namespace longhaul
