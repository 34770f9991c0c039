#include "ddp/reduction.h"

#include "ddp/codec_hook.h"
#include "ddp/names.h"
#include "ddp/reduce_dtype_hook.h"
#include "ddp/user_hook.h"

namespace longhaul {
namespace {

std::shared_ptr<ErrorFeedback> make_error_feedback(const TrainedParameters& trained,
                                                   const DistributedDataParallelOptions& options,
                                                   const ErrorFeedback* before) {
  if (!options.error_feedback) return nullptr;
  auto made = std::make_shared<ErrorFeedback>(trained.tensors, trained.names);
  if (before != nullptr) made->adopt(*before);
  return made;
}

}  // namespace

Reduction::Reduction(const torch::nn::Module& module, const TrainedParameters& trained,
                     const std::shared_ptr<Communicator>& communicator,
                     const DistributedDataParallelOptions& options,
                     const std::atomic<uint64_t>& step,
                     const std::function<void(size_t)>& on_gradient, const CommHook& hook,
                     const ErrorFeedback* before)
    : watch(trained.tensors, on_gradient),
      reducer(make_reducer(trained, communicator->process_group(), options)),
      logger(make_logger(reducer, module, options)),
      parameters(module, joined(options.params_and_buffers_to_ignore, options.delay_all_reduce)),
      order(trained.names, options.static_graph, step),
      error_feedback(make_error_feedback(trained, options, before)) {
  // Before the first forward pass, as the Reducer asks.
  if (options.static_graph) reducer->set_static_graph();
  if (options.codec.kind != CodecSpec::Kind::kNone) {
    reducer->register_comm_hook(
        std::make_unique<CodecHook>(communicator, options.codec, step, error_feedback));
    logger->set_comm_hook(options.codec.str());
  } else if (options.reduce_dtype) {
    reducer->register_comm_hook(
        std::make_unique<ReduceDtypeHook>(communicator->process_group(), *options.reduce_dtype));
  } else if (hook) {
    reducer->register_comm_hook(std::make_unique<UserHook>(hook, step));
  }
}

// The same collectives in the same order as the backward pass of a rank with inputs: every bucket,
// then the map of used parameters. Python's _DDPJoinHook does so too, but sends that map as its
// last step left it. The last call lets a rank that never had a backward pass take part when
// buckets are rebuilt: it notes some order of parameters, and all ranks then take rank 0's.
void Reduction::reduce_zeros(Communicator& communicator,
                             const DistributedDataParallelOptions& options) {
  std::vector<c10d::GradBucket> buckets = reducer->get_grad_buckets(/*return_zero_tensors=*/true);
  std::vector<c10::intrusive_ptr<c10::ivalue::Future>> results;
  results.reserve(buckets.size());
  for (c10d::GradBucket& bucket : buckets) results.push_back(reducer->run_comm_hook(bucket));
  for (const auto& result : results) result->waitAndThrow();
  if (options.find_unused_parameters && !options.static_graph) {
    std::vector<at::Tensor> used = {at::zeros_like(reducer->get_local_used_map_on_device())};
    communicator.process_group()->allreduce(used)->wait();
  }
  reducer->push_rebuilt_params_for_all_indices();
}

}  // namespace longhaul
