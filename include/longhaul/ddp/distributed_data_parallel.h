// PyTorch's DistributedDataParallel for C++: wraps a model so that loss.backward() leaves on every
// rank the average of all ranks' gradients, reduced in buckets while backward still runs.
//
//   longhaul::DistributedDataParallel ddp(world, model);   // a ModuleHolder or shared_ptr<Module>
//   torch::optim::AdamW optimizer(model->parameters());
//   ...
//   optimizer.zero_grad();
//   auto loss = loss_of(ddp(batch.data), batch.target);
//   loss.backward();
//   optimizer.step();
//
// It stands on c10d::Reducer, as the Python class does, and gives the same results to the last bit
// when options.codec is none. In a world of one nothing is installed: the loop is the plain loop.
//
// Every rank runs the same sequence of constructors, forward and backward passes. With
// broadcast_buffers a forward pass under torch::NoGradGuard may communicate too (as in Python): to
// evaluate on one rank only, call the model itself.
//
// Thread safety: one thread at a time. The object may go before the model; the model is the user's.
//
// The model may change after it was wrapped (a checkpoint is loaded, parameters are frozen, added,
// converted), on every rank before the same step: the next forward pass hooks it anew. One Reducer
// reduces each step's gradients once, so passes have rules (docs/api.md); what breaks them is
// named.
//
// Errors: the constructor throws ModelMismatchError on every rank when the models differ,
// Error(kInvalid) when this model or these options cannot work; so does the forward pass when the
// model has changed, or when the pass before it was not reduced, and loss.backward(). What fails in
// a collective comes out of the forward pass or out of loss.backward() as CollectiveError, as does
// that ranks are at different steps; after that the object is spent.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "longhaul/collectives/communicator.h"
#include "longhaul/ddp/comm_hook.h"
#include "longhaul/ddp/for_each_tensor.h"
#include "longhaul/ddp/model_mismatch_error.h"
#include "longhaul/ddp/options.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace longhaul {

class Join;
class JoinGroup;
struct JoinedPass;

namespace detail {

// What does not depend on the model's type. Held by shared_ptr because callbacks inside the
// autograd graph outlive a call (they hold weak pointers).
class DdpCore {
 public:
  static std::shared_ptr<DdpCore> create(std::shared_ptr<Communicator> communicator,
                                         std::shared_ptr<torch::nn::Module> module,
                                         const DistributedDataParallelOptions& options);
  virtual ~DdpCore() = default;

  virtual void before_forward() = 0;
  // Whether after_forward() needs the tensors of the model's output this time.
  virtual bool wants_outputs() const = 0;
  // May replace the tensors (they pass through a node of the autograd graph).
  virtual void after_forward(const FoundTensors& outputs) = 0;

  virtual bool set_gradient_sync(bool enabled) = 0;  // returns what it was
  virtual void zero_grad() = 0;
  virtual uint64_t step() const = 0;
  virtual NamedTensors error_feedback() const = 0;
  virtual void load_error_feedback(const NamedTensors& state) = 0;
  virtual const std::shared_ptr<Communicator>& communicator() const = 0;
  virtual void register_comm_hook(CommHook hook) = 0;

  // For Join. Null: within none. `number` of this model among those that it was given.
  virtual void set_join(std::shared_ptr<JoinGroup> group, size_t number) = 0;
  // Takes part in a pass of the others with gradients of zero.
  virtual void shadow(const JoinedPass& pass) = 0;
  // Sets parameters and buffers to those of rank `from`.
  virtual void sync_from(Rank from) = 0;
};

}  // namespace detail

// While it lives, backward passes only accumulate: PyTorch's no_sync(). Forward passes must lie
// inside it too.
class [[nodiscard]] NoSyncGuard {
 public:
  explicit NoSyncGuard(std::shared_ptr<detail::DdpCore> core)
      : core_(std::move(core)), before_(core_->set_gradient_sync(false)) {}
  ~NoSyncGuard() { core_->set_gradient_sync(before_); }
  NoSyncGuard(const NoSyncGuard&) = delete;
  NoSyncGuard& operator=(const NoSyncGuard&) = delete;

 private:
  std::shared_ptr<detail::DdpCore> core_;
  bool before_;
};

// `Model` is a torch::nn::ModuleHolder (what TORCH_MODULE makes) or a std::shared_ptr to a Module.
template <typename Model>
class DistributedDataParallel {
 public:
  // Collective. `world` is a World or a std::shared_ptr<Communicator>.
  DistributedDataParallel(std::shared_ptr<Communicator> world, Model model,
                          const DistributedDataParallelOptions& options = {})
      : model_(std::move(model)),
        core_(detail::DdpCore::create(std::move(world), pointer(model_), options)) {}

  // The model's own forward(), with whatever it takes and returns.
  template <typename... Args>
  auto operator()(Args&&... args) {
    core_->before_forward();
    using Output = decltype(model_->forward(std::forward<Args>(args)...));
    if constexpr (std::is_void_v<Output>) {
      model_->forward(std::forward<Args>(args)...);
      core_->after_forward({});
    } else {
      std::decay_t<Output> output = model_->forward(std::forward<Args>(args)...);
      core_->after_forward(core_->wants_outputs() ? detail::find_tensors(output)
                                                  : detail::FoundTensors());
      return output;
    }
  }
  template <typename... Args>
  auto forward(Args&&... args) {
    return (*this)(std::forward<Args>(args)...);
  }

  // Gradient accumulation: { auto guard = ddp.no_sync(); loss_of(ddp(part)).backward(); }
  NoSyncGuard no_sync() { return NoSyncGuard(core_); }

  // Sets gradients to none, or with gradient_as_bucket_view to zero in place. Always works; the
  // optimizer's own works unless gradient_as_bucket_view is on.
  void zero_grad() { core_->zero_grad(); }

  // Before the first step, once, on every rank, with codec none: what happens to each bucket
  // instead of the all-reduce (comm_hook.h). Errors: Error(kInvalid).
  void register_comm_hook(CommHook hook) { core_->register_comm_hook(std::move(hook)); }

  Model& model() { return model_; }
  const Model& model() const { return model_; }

  // Forward passes so far whose gradients are to be reduced.
  uint64_t step() const { return core_->step(); }
  // With options.error_feedback: what the codec dropped so far of this rank's gradients, a copy per
  // parameter; empty without it and in a world of one. Part of a checkpoint, each rank its own:
  // load_error_feedback() before the next step goes on where it was. It throws Error(kInvalid) when
  // the names or sizes are not this model's, and does nothing without error feedback.
  NamedTensors error_feedback() const { return core_->error_feedback(); }
  void load_error_feedback(const NamedTensors& state) { core_->load_error_feedback(state); }
  // What the communicator sent so far, and how long backward passes waited for it.
  TrafficCounts traffic() const { return core_->communicator()->traffic().counts(); }

 private:
  friend class Join;

  static auto pointer(const Model& model) {
    if constexpr (requires { model.ptr(); }) {
      return model.ptr();
    } else {
      return model;
    }
  }

  Model model_;
  std::shared_ptr<detail::DdpCore> core_;
};

}  // namespace longhaul
