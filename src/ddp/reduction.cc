#include "ddp/reduction.h"

#include "ddp/codec_hook.h"

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
                     const std::function<void(size_t)>& on_gradient, const ErrorFeedback* before)
    : watch(trained.tensors, on_gradient),
      reducer(make_reducer(trained, communicator->process_group(), options)),
      logger(make_logger(reducer, module, options)),
      parameters(module),
      order(trained.names, options.static_graph, step),
      error_feedback(make_error_feedback(trained, options, before)) {
  if (options.static_graph) reducer->set_static_graph();
  if (options.codec.kind != CodecSpec::Kind::kNone) {
    reducer->register_comm_hook(
        std::make_unique<CodecHook>(communicator, options.codec, step, error_feedback));
    logger->set_comm_hook(options.codec.str());
  }
}

}  // namespace longhaul
