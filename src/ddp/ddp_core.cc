#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>
#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include <algorithm>
#include <atomic>
#include <unordered_set>

#include "ddp/backward_clock.h"
#include "ddp/codec_hook.h"
#include "ddp/error_feedback.h"
#include "ddp/model_signature.h"
#include "ddp/output_sink.h"
#include "ddp/reducer_factory.h"
#include "longhaul/base/log.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"
#include "longhaul/ddp/distributed_data_parallel.h"

namespace longhaul {
namespace {

using torch::nn::Module;

// What is broadcast at a time, as in PyTorch.
constexpr size_t kBroadcastBytes = size_t{250} * 1024 * 1024;

constexpr const char* kErrorFeedbackWarning =
    "error_feedback is on: right for SGD, with momentum or without; Adam and its kin train worse "
    "with it than without";

bool has_sparse_gradients(const Module& module) {
  if (const auto* embedding = dynamic_cast<const torch::nn::EmbeddingImpl*>(&module))
    return embedding->options.sparse();
  if (const auto* bag = dynamic_cast<const torch::nn::EmbeddingBagImpl*>(&module))
    return bag->options.sparse();
  return false;
}

TrainedParameters trained_parameters(const Module& root) {
  TrainedParameters trained;
  std::unordered_set<c10::TensorImpl*> seen;
  const auto add = [&](const std::string& prefix, const Module& module) {
    for (const auto& item : module.named_parameters(/*recurse=*/false)) {
      const at::Tensor& parameter = item.value();
      if (!parameter.requires_grad() || !seen.insert(parameter.unsafeGetTensorImpl()).second)
        continue;
      trained.tensors.push_back(parameter);
      trained.expect_sparse.push_back(has_sparse_gradients(module));
      trained.names.push_back(prefix.empty() ? item.key() : prefix + "." + item.key());
    }
  };
  add("", root);
  for (const auto& item : root.named_modules("", /*include_self=*/false))
    add(item.key(), *item.value());
  return trained;
}

// Tensors to broadcast, each once; detached, because the broadcast writes into leaves.
void append_states(const torch::OrderedDict<std::string, at::Tensor>& named,
                   std::unordered_set<c10::TensorImpl*>& seen, std::vector<at::Tensor>& states) {
  for (const auto& item : named) {
    if (item.value().defined() && seen.insert(item.value().unsafeGetTensorImpl()).second)
      states.push_back(item.value().detach());
  }
}

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

// A device without an index is any of its type.
bool lies_on(const at::Tensor& tensor, c10::Device device) {
  const c10::Device own = tensor.device();
  const bool any = !device.has_index() || !own.has_index();
  return own.type() == device.type() && (any || own.index() == device.index());
}

// Why this rank cannot start; empty when it can.
std::string find_problem(const TrainedParameters& trained,
                         const DistributedDataParallelOptions& options, c10::Device device) {
  if (trained.tensors.empty())
    return "the model has no parameter that requires a gradient, so there is nothing to reduce";
  const bool compressed = options.codec.kind != CodecSpec::Kind::kNone;
  if (options.error_feedback && options.codec.lossless())
    return str_cat("codec ", options.codec.str(),
                   " loses nothing that error_feedback could add: leave it off");
  // Above it nothing of a block may be sent, step after step, while its residual grows.
  constexpr float kLargestStep = 2;
  if (options.error_feedback && std::max(options.codec.step, options.codec.result) > kLargestStep)
    return str_cat("error_feedback takes steps up to ", kLargestStep, ", not codec ",
                   options.codec.str());
  for (size_t i = 0; i < trained.tensors.size(); ++i) {
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
  }
  for (const double mb :
       {options.bucket_cap_mb.value_or(1), options.first_bucket_cap_mb.value_or(1)})
    if (!(mb > 0)) return str_cat("bucket caps must be above 0 MiB, not ", mb);
  for (const double mb : options.bucket_cap_mb_list)
    if (!(mb > 0)) return str_cat("bucket_cap_mb_list must hold sizes above 0 MiB, not ", mb);
  return "";
}

class DdpCoreImpl final : public detail::DdpCore, public std::enable_shared_from_this<DdpCoreImpl> {
 public:
  DdpCoreImpl(std::shared_ptr<Communicator> communicator, std::shared_ptr<Module> module,
              const DistributedDataParallelOptions& options)
      : communicator_(std::move(communicator)), module_(std::move(module)), options_(options) {
    const TrainedParameters trained = trained_parameters(*module_);
    agree(trained);
    if (communicator_->size() == 1) return;  // gradients are their own average
    if (options_.init_sync) sync_states();
    clock_ = std::make_unique<BackwardClock>(trained.tensors, communicator_);
    reducer_ = make_reducer(trained, communicator_->process_group(), options_);
    if (options_.static_graph) reducer_->set_static_graph();
    if (options_.error_feedback) {
      error_feedback_ = std::make_shared<ErrorFeedback>(trained.tensors, trained.names);
      if (communicator_->rank() == 0) log(LogLevel::kWarning, "ddp", kErrorFeedbackWarning);
    }
    if (options_.codec.kind != CodecSpec::Kind::kNone)
      reducer_->register_comm_hook(
          std::make_unique<CodecHook>(communicator_, options_.codec, step_, error_feedback_));
  }

  void before_forward() override {
    if (!reducer_ || !at::GradMode::is_enabled()) return sync_buffers();
    if (sync_gradients_) reducer_->prepare_for_forward();
    reducer_->rebuild_buckets();
    sync_buffers();
  }

  bool wants_outputs() const override {
    if (!reducer_ || !reduces_now()) return false;
    return options_.static_graph ? !delayed_allreduce_queued_ : options_.find_unused_parameters;
  }

  void after_forward(const detail::FoundTensors& outputs) override {
    forward_syncs_ = reduces_now();
    if (!forward_syncs_) return;
    communicator_->begin_step(++step_);
    if (!reducer_) return;
    clock_->arm();
    if (!wants_outputs()) return reducer_->prepare_for_backward({});
    if (outputs.opaque != nullptr)
      throw Error(
          ErrorKind::kInvalid,
          str_cat("the model returns a ", outputs.opaque->name(),
                  " and nothing says where its tensors are, which find_unused_parameters and "
                  "static_graph need: write a for_each_tensor() for it "
                  "(longhaul/ddp/for_each_tensor.h)"));
    search_and_sink(outputs.tensors);
  }

  bool set_gradient_sync(bool enabled) override { return std::exchange(sync_gradients_, enabled); }

  void zero_grad() override {
    torch::NoGradGuard no_grad;
    for (at::Tensor& parameter : module_->parameters()) {
      at::Tensor& gradient = parameter.mutable_grad();
      if (!gradient.defined()) continue;
      if (reducer_ && options_.gradient_as_bucket_view) {
        gradient.zero_();
      } else {
        gradient.reset();
      }
    }
  }

  uint64_t step() const override { return step_.load(); }
  NamedTensors error_feedback() const override {
    return error_feedback_ ? error_feedback_->state() : NamedTensors();
  }
  void load_error_feedback(const NamedTensors& state) override {
    if (error_feedback_) error_feedback_->load(state);
  }
  const std::shared_ptr<Communicator>& communicator() const override { return communicator_; }

 private:
  bool reduces_now() const { return sync_gradients_ && at::GradMode::is_enabled(); }

  // Throws unless this rank can start and, with init_sync, all ranks wrapped the same model.
  void agree(const TrainedParameters& trained) {
    const std::string problem = find_problem(trained, options_, communicator_->options().device);
    if (communicator_->size() > 1 && options_.init_sync) {
      ModelSignature signature = describe(*module_, options_);
      signature.problem = problem;
      check_same_model(*communicator_, signature);
    }
    if (!problem.empty()) throw Error(ErrorKind::kInvalid, problem);
  }

  void sync_states() {
    std::unordered_set<c10::TensorImpl*> seen;
    std::vector<at::Tensor> states;
    append_states(module_->named_parameters(), seen, states);
    if (options_.broadcast_buffers) append_states(module_->named_buffers(), seen, states);
    if (!states.empty())
      c10d::broadcast_coalesced(communicator_->process_group(), states, kBroadcastBytes);
  }

  // Buffers are collected anew: modules may replace them. As in PyTorch, only the first of several
  // forward passes without gradients (an evaluation) communicates.
  void sync_buffers() {
    if (!reducer_ || !forward_syncs_ || !options_.broadcast_buffers) return;
    torch::NoGradGuard no_grad;
    std::unordered_set<c10::TensorImpl*> seen;
    std::vector<at::Tensor> buffers;
    append_states(module_->named_buffers(), seen, buffers);
    if (!buffers.empty())
      c10d::broadcast_coalesced(communicator_->process_group(), buffers, kBroadcastBytes);
  }

  // In the first step of a static graph all buckets wait until every gradient is there (only then
  // it is known how often each is used): a callback at the end of that backward pass reduces them.
  void search_and_sink(const std::vector<at::Tensor*>& outputs) {
    if (options_.static_graph) {
      reducer_->prepare_for_backward({});
      return pass_through_sink(outputs, [core = weak_from_this()] {
        if (const auto alive = core.lock()) alive->queue_delayed_allreduce();
      });
    }
    std::vector<at::Tensor> tensors;
    tensors.reserve(outputs.size());
    for (const at::Tensor* output : outputs) tensors.push_back(*output);
    reducer_->prepare_for_backward(tensors);
    pass_through_sink(outputs, {});
  }

  void queue_delayed_allreduce() {
    if (std::exchange(delayed_allreduce_queued_, true)) return;
    torch::autograd::Engine::get_default_engine().queue_callback([core = weak_from_this()] {
      if (const auto alive = core.lock()) alive->reducer_->delay_all_reduce();
    });
  }

  const std::shared_ptr<Communicator> communicator_;
  const std::shared_ptr<Module> module_;
  const DistributedDataParallelOptions options_;
  std::atomic<uint64_t> step_ = 0;  // read by the hook, on a thread of the autograd engine
  bool sync_gradients_ = true;
  bool forward_syncs_ = true;  // PyTorch's require_forward_param_sync
  bool delayed_allreduce_queued_ = false;
  std::shared_ptr<ErrorFeedback> error_feedback_;  // null: not asked for
  // In this order: the clock's hooks come before the Reducer's.
  std::unique_ptr<BackwardClock> clock_;
  std::unique_ptr<c10d::Reducer> reducer_;  // none in a world of one
};

}  // namespace

std::shared_ptr<detail::DdpCore> detail::DdpCore::create(
    std::shared_ptr<Communicator> communicator, std::shared_ptr<torch::nn::Module> module,
    const DistributedDataParallelOptions& options) {
  if (!communicator || !module)
    throw Error(ErrorKind::kInvalid, "DistributedDataParallel needs a world and a model, not null");
  return std::make_shared<DdpCoreImpl>(std::move(communicator), std::move(module), options);
}

}  // namespace longhaul
