// Everything that hangs on one set of hooked parameters: PyTorch's Reducer and its Logger, our own
// hooks, the order of passes. Made anew when the model's parameters change.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "ddp/error_feedback.h"
#include "ddp/gradient_watch.h"
#include "ddp/pass_order.h"
#include "ddp/reducer_factory.h"
#include "ddp/wrapped_parameters.h"
#include "longhaul/collectives/communicator.h"
#include "longhaul/ddp/comm_hook.h"
#include "longhaul/ddp/options.h"

namespace longhaul {

struct Reduction {
  // Collective. `on_gradient` as GradientWatch's; `step` is the owner's counter, which lives
  // longer. `hook` may be empty, `before` null.
  Reduction(const torch::nn::Module& module, const TrainedParameters& trained,
            const std::shared_ptr<Communicator>& communicator,
            const DistributedDataParallelOptions& options, const std::atomic<uint64_t>& step,
            const std::function<void(size_t)>& on_gradient, const CommHook& hook,
            const ErrorFeedback* before);

  // What a backward pass exchanges, from a rank that has no gradients. Collective.
  void reduce_zeros(Communicator& communicator, const DistributedDataParallelOptions& options);

  // The order of these members matters. Hooks on a parameter run in the order in which they were
  // added, and ours must run before the Reducer's, so `watch` is made first. The Logger is
  // destroyed before its Reducer. HookedParameters notes gradient accumulators, which live only
  // because `watch` and the Reducer hold them.
  GradientWatch watch;
  std::shared_ptr<WatchedReducer> reducer;
  std::shared_ptr<c10d::Logger> logger;
  HookedParameters parameters;
  PassOrder order;
  std::shared_ptr<ErrorFeedback> error_feedback;  // null: not asked for
};

}  // namespace longhaul
