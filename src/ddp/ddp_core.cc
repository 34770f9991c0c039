#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/nn/module.h>

#include <atomic>
#include <optional>

#include "base/log.h"
#include "collectives/watched_communicator.h"
#include "ddp/delayed_reduction.h"
#include "ddp/join_group.h"
#include "ddp/model_signature.h"
#include "ddp/model_states.h"
#include "ddp/names.h"
#include "ddp/output_sink.h"
#include "ddp/reduction.h"
#include "ddp/start_check.h"
#include "longhaul/base/strings.h"
#include "longhaul/ddp/distributed_data_parallel.h"

namespace longhaul {
namespace {

using torch::nn::Module;
using Phase = StepNote::Phase;

constexpr const char* kErrorFeedbackWarning =
    "error_feedback is on: right for SGD, with momentum or without; Adam and its kin train worse "
    "with it than without";

void throw_if(const PassOrder::Problem& problem) {
  if (problem) throw Error(ErrorKind::kInvalid, *problem);
}

// Threads: everything is called by the thread that trains, but for the part below "called in a
// backward pass", which the autograd engine runs. The two never run at the same time, because
// backward() returns only when its tasks have ended.
//
// Locks: order_mutex_ is held while the Reducer and the notes are asked or told something, so it
// comes before their locks. The Reducer calls our communication hook with its own lock held;
// therefore no hook takes order_mutex_, and nothing here waits for other ranks while it holds it.
class DdpCoreImpl final : public detail::DdpCore, public std::enable_shared_from_this<DdpCoreImpl> {
 public:
  DdpCoreImpl(std::shared_ptr<Communicator> communicator, std::shared_ptr<Module> module,
              const DistributedDataParallelOptions& options)
      : communicator_(std::move(communicator)),
        watch_(watch_of(*communicator_)),
        wrapper_(watch_->next_wrapper()),
        module_(std::move(module)),
        options_(options) {}

  // Once, right after construction: callbacks need weak_from_this(), which a constructor does not
  // have. Every rank takes these steps in this order, because most of them communicate.
  // Models are compared before anything is broadcast: a broadcast between models that differ would
  // hang or end the process inside Gloo.
  void start() {
    const TrainedParameters trained = bucket_parameters();
    agree(trained);
    if (communicator_->size() == 1) return;  // gradients are their own average
    if (options_.init_sync) sync_from(0);
    if (!options_.delay_all_reduce.empty())
      delayed_ = std::make_unique<DelayedReduction>(*communicator_);
    if (options_.error_feedback && communicator_->rank() == 0)
      log(LogLevel::kWarning, "ddp", kErrorFeedbackWarning);
    hook(trained);
  }

  void before_forward() override {
    check_not_spent();
    // First, because ranks without inputs wait for it to learn what this pass will exchange.
    if (join_ && reduction_) announce_forward();
    if (!reduction_) return;
    if (!at::GradMode::is_enabled()) return exchange();
    check_order();
    follow_changes();
    // As in Python, only for a pass that reduces: prepare_for_forward() counts the iterations, and
    // the Reducer learns a static graph in the first one.
    if (reduces_now()) {
      reduction_->logger->set_runtime_stats_and_log();
      reduction_->reducer->prepare_for_forward();
    }
    exchange();
  }

  bool wants_outputs() const override {
    return reduction_ && at::GradMode::is_enabled() && (reduces_now() || learns_graph());
  }

  void after_forward(const detail::FoundTensors& outputs) override {
    forward_syncs_ = sync_gradients_ && at::GradMode::is_enabled();
    if (!reduces_now()) return pass_first_outputs(outputs);
    communicator_->begin_step(++step_);
    if (!reduction_) return;
    clock_armed_ = true;
    // From here on the Reducer takes the gradient of every parameter for one of this step.
    if (uses_sink()) {
      check_outputs_are_known(outputs);
      search_and_sink(outputs.tensors);
    } else {
      reduction_->reducer->prepare_for_backward({});
    }
    watch_backward(outputs);
  }

  bool set_gradient_sync(bool enabled) override { return std::exchange(sync_gradients_, enabled); }

  void zero_grad() override {
    torch::NoGradGuard no_grad;
    for (at::Tensor& parameter : module_->parameters()) {
      at::Tensor& gradient = parameter.mutable_grad();
      if (!gradient.defined()) continue;
      if (reduction_ && options_.gradient_as_bucket_view) {
        // The gradient is a view into its bucket. One made anew would have to be copied there.
        gradient.zero_();
      } else {
        gradient.reset();
      }
    }
  }

  uint64_t step() const override { return step_.load(); }
  NamedTensors error_feedback() const override {
    return error_feedback_or_null() ? error_feedback_or_null()->state() : NamedTensors();
  }
  void load_error_feedback(const NamedTensors& state) override {
    if (error_feedback_or_null()) error_feedback_or_null()->load(state);
  }
  const std::shared_ptr<Communicator>& communicator() const override { return communicator_; }

  void register_comm_hook(CommHook hook) override {
    const auto refuse = [](const std::string& why) { throw Error(ErrorKind::kInvalid, why); };
    if (!hook) refuse("register_comm_hook() needs a hook, not an empty function");
    if (comm_hook_) refuse("there can be one hook, and one is registered");
    if (options_.codec.kind != CodecSpec::Kind::kNone)
      refuse(str_cat("a hook takes the place of codec ", options_.codec.str(), ": use codec none"));
    if (options_.reduce_dtype) refuse("a hook takes the place of reduce_dtype: leave it unset");
    if (step_ > 0) refuse("a hook must be registered before the first step");
    comm_hook_ = std::move(hook);
    check_can_join(join_.get());
    this->hook(bucket_parameters());
  }

  void set_join(std::shared_ptr<JoinGroup> group, size_t number) override {
    check_can_join(group.get());
    join_ = std::move(group);
    number_in_join_ = number;
    if (reduction_) reduction_->reducer->set_forward_pass_work_handle(nullptr, true);
  }

  void shadow(const JoinedPass& pass) override {
    check_not_spent();
    if (!reduction_) return;
    if (pass.backward) {
      shadow_backward();
    } else {
      shadow_forward(pass);
    }
  }

  void sync_from(Rank from) override {
    if (communicator_->size() == 1) return;
    broadcast(*communicator_, parameters_of(*module_, ignored()), from);
    if (options_.broadcast_buffers)
      broadcast(*communicator_, buffers_of(*module_, ignored()), from);
    // Ranks of a Join took different numbers of optimizer steps until now. Their values are equal
    // again, so what the next note says of changes starts from here.
    if (reduction_) reduction_->parameters.count_changes();
  }

 private:
  const std::vector<std::string>& ignored() const { return options_.params_and_buffers_to_ignore; }
  TrainedParameters bucket_parameters() const {
    return trained_parameters(*module_, joined(ignored(), options_.delay_all_reduce));
  }
  std::vector<at::Tensor> delayed_parameters() const {
    std::vector<at::Tensor> parameters;
    const auto named = module_->named_parameters();
    for (const std::string& name : options_.delay_all_reduce)
      if (const at::Tensor* found = named.find(name)) parameters.push_back(*found);
    return parameters;
  }

  void check_can_join(const JoinGroup* join) const {
    if (join != nullptr && options_.skip_all_reduce_unused_params)
      throw Error(ErrorKind::kInvalid,
                  "a rank without inputs cannot know what the others leave out: a Join takes no "
                  "skip_all_reduce_unused_params");
    // Only the Reducer itself can divide by the number of ranks that still have inputs. Our hooks
    // and DelayedReduction divide by the size of the world.
    const bool plain = options_.codec.kind == CodecSpec::Kind::kNone && !comm_hook_ &&
                       !options_.reduce_dtype && !delayed_;
    if (join != nullptr && !join->options().divide_by_initial_world_size && !plain)
      throw Error(ErrorKind::kInvalid,
                  "a Join without divide_by_initial_world_size takes codec none, no hook, no "
                  "reduce_dtype and no delay_all_reduce");
  }

  // Takes the part of a rank without inputs in what before_forward() and after_forward() of the
  // others exchange. Its notes are of phase kShadow, which agree with whatever the others say.
  void shadow_forward(const JoinedPass& pass) {
    if (pass.learns_graph)
      throw Error(ErrorKind::kInvalid,
                  "static_graph needs at least one batch on every rank within a Join");
    exchange(Phase::kShadow, pass.authority, pass.with_gradients);
    forward_syncs_ = pass.reduces;
    if (pass.reduces) communicator_->begin_step(++step_);
  }

  // The collectives come in the order of a backward pass: the buckets, then the delayed gradients.
  void shadow_backward() {
    say(Phase::kShadow, step_, 0, "");
    reduction_->reduce_zeros(*communicator_, options_);
    if (delayed_) delayed_->reduce_zeros(delayed_parameters());
    check_values_unless(await_others(str_cat("the backward pass of step ", step_)));
  }

  void announce_forward() {
    const bool with_gradients = at::GradMode::is_enabled();
    const JoinedPass pass = join_->announce_forward(number_in_join_, with_gradients, reduces_now(),
                                                    reduces_now() && learns_graph());
    authority_ = pass.authority;
    if (!join_->options().divide_by_initial_world_size)
      reduction_->reducer->set_forward_pass_work_handle(count_as_work(pass.active), false);
  }

  bool reduces_now() const {
    return sync_gradients_ && !trains_nothing_ && at::GradMode::is_enabled();
  }
  // A static graph is learned in the first backward pass that reduces; from then on the Reducer
  // knows how many gradients each parameter gets in a step.
  bool learns_graph() const { return options_.static_graph && !delayed_allreduce_queued_; }
  // Whether outputs pass through a node of ours (output_sink.h). It makes backward reach all of
  // them, those that the loss does not use with undefined gradients, so that the parameters behind
  // them report to the Reducer; and it is where a static graph's first backward pass is noticed.
  bool uses_sink() const {
    return options_.static_graph ? learns_graph() : options_.find_unused_parameters;
  }
  ErrorFeedback* error_feedback_or_null() const {
    return reduction_ ? reduction_->error_feedback.get() : nullptr;
  }

  // Throws unless this rank can start and, with init_sync, all ranks wrapped the same model. A
  // problem of this rank alone is sent with its signature before it is thrown: the others would
  // wait in check_same_model() for a rank that has given up.
  void agree(const TrainedParameters& trained) {
    const std::string problem = find_problem(
        *module_, trained, options_, communicator_->options().device, communicator_->size());
    if (communicator_->size() > 1 && options_.init_sync) {
      ModelSignature signature = describe(*module_, options_);
      signature.problem = problem;
      check_same_model(*communicator_, signature);
    }
    if (!problem.empty()) throw Error(ErrorKind::kInvalid, problem);
  }

  // Makes a new Reducer and what belongs to it. The old one is destroyed before, because both would
  // hold a copy of all gradients and have hooks on the same parameters; only its residuals are kept
  // until the new one has taken them over. If the constructor throws, there is no reduction_ any
  // more, and check_not_spent() says so in every later pass.
  void hook(const TrainedParameters& trained) {
    const std::shared_ptr<ErrorFeedback> before = reduction_ ? reduction_->error_feedback : nullptr;
    reduction_.reset();
    delayed_allreduce_queued_ = false;
    reduction_ = std::make_unique<Reduction>(
        *module_, trained, communicator_, options_, step_,
        [core = weak_from_this()](size_t parameter) {
          if (const auto alive = core.lock()) alive->on_gradient(parameter);
        },
        comm_hook_, before.get());
  }

  void check_not_spent() const {
    if (communicator_->size() > 1 && !reduction_)
      throw Error(ErrorKind::kInvalid,
                  "hooking the changed model failed: make a new DistributedDataParallel");
  }

  void check_order() {
    watch_->check(str_cat("the forward pass after step ", step_));
    const MutexLock lock(order_mutex_);
    throw_if(reduction_->order.forward_begins());
  }

  // Hooks the model's parameters anew when they are not those that were hooked. All ranks must do
  // so before the same step: the notes are compared before the first collective, so when
  // await_others() returns, every rank is here and runs the same collectives. Most tensors are
  // usually equal on all ranks, because each loaded the same checkpoint; so hashes are compared,
  // and only what differs is broadcast.
  void follow_changes() {
    const auto change = reduction_->parameters.change(*module_);
    trains_nothing_ = change && change->trains_nothing;
    // Where nothing is trained, the old hooks stay and are not called. Ranks may thaw the
    // parameters again and go on.
    if (!change || trains_nothing_) return;
    // A rank without inputs runs no forward pass in which it could notice the change.
    if (join_) throw Error(ErrorKind::kInvalid, "the model changed within a Join: " + change->what);
    say(Phase::kRehook, step_ + 1, 0, change->what);
    await_others(str_cat("hooking the changed model before step ", step_ + 1));
    const TrainedParameters trained = bucket_parameters();
    agree(trained);
    size_t differed = 0;
    if (options_.init_sync) {
      differed = broadcast_differing(*communicator_, parameters_of(*module_, ignored()));
      if (options_.broadcast_buffers)
        differed += broadcast_differing(*communicator_, buffers_of(*module_, ignored()));
    }
    hook(trained);
    log(LogLevel::kInfo, "ddp", "the model was hooked anew before step ", step_ + 1, ": ",
        change->what, differed > 0 ? str_cat("; ", differed, " tensors set to rank 0's") : "");
  }

  void exchange() { exchange(Phase::kForward, join_ ? authority_ : 0, at::GradMode::is_enabled()); }

  // What ranks do together before a forward pass: after the first step they rebuild the buckets,
  // and before every pass they set the buffers to those of rank `from`. Rebuilding broadcasts rank
  // 0's order of gradients, so all ranks must do it in the same pass. An evaluation that sets
  // buffers rebuilds them too, because the same note may meet a forward pass with gradients on
  // another rank.
  void exchange(Phase phase, Rank from, bool with_gradients) {
    const NamedTensors buffers = buffers_to_set();
    // Not in the middle of a reduction, which the Reducer refuses.
    const bool rebuilds = reduction_->reducer->is_to_rebuild_buckets() && !order_reduces();
    if (buffers.empty() && !(rebuilds && with_gradients)) return;
    say(phase, step_ + 1, layout_hash(buffers), "");
    // The notes of all ranks are awaited before the first collective. Otherwise a rank that does
    // something else would make the others wait until the time-out, and Gloo ends the process of a
    // rank that receives more bytes than it expects.
    await_others(str_cat("the forward pass after step ", step_));
    if (rebuilds) reduction_->reducer->rebuild_buckets();
    torch::NoGradGuard no_grad;
    broadcast_quietly(*communicator_, buffers, from);
  }

  // The buffers are collected each time, because modules may replace them. As in PyTorch, only the
  // first of several forward passes without gradients (an evaluation) communicates: its
  // after_forward() clears forward_syncs_.
  NamedTensors buffers_to_set() const {
    if (!forward_syncs_ || !options_.broadcast_buffers) return {};
    NamedTensors buffers = buffers_of(*module_, ignored());
    const std::string problem = find_buffer_problem(buffers);
    if (!problem.empty()) throw Error(ErrorKind::kInvalid, problem);
    return buffers;
  }

  bool order_reduces() {
    const MutexLock lock(order_mutex_);
    return reduction_->order.reduces();
  }

  void check_outputs_are_known(const detail::FoundTensors& outputs) const {
    if (outputs.opaque == nullptr) return;
    throw Error(ErrorKind::kInvalid,
                str_cat("the model returns a ", outputs.opaque->name(),
                        " and nothing says where its tensors are, which find_unused_parameters and "
                        "static_graph need: write a for_each_tensor() for it "
                        "(longhaul/ddp/for_each_tensor.h)"));
  }

  // In the first step of a static graph all buckets wait for the end of the backward pass, because
  // only then it is known how many gradients each parameter gets; a callback at that end reduces
  // them. In all other cases the Reducer walks the graph from the outputs to find the parameters
  // that they do not depend on.
  void search_and_sink(const std::vector<at::Tensor*>& outputs) {
    if (options_.static_graph) {
      reduction_->reducer->prepare_for_backward({});
      return sink_first_outputs(outputs);
    }
    std::vector<at::Tensor> tensors;
    tensors.reserve(outputs.size());
    for (const at::Tensor* output : outputs) tensors.push_back(*output);
    reduction_->reducer->prepare_for_backward(tensors);
    pass_through_sink(outputs, {});
  }

  // The first backward pass that reduces may go through outputs of a pass in no_sync() only, so
  // those pass through the sink too until the graph is learned.
  void pass_first_outputs(const detail::FoundTensors& outputs) {
    if (reduction_ && at::GradMode::is_enabled() && learns_graph())
      sink_first_outputs(outputs.tensors);
  }

  void sink_first_outputs(const std::vector<at::Tensor*>& outputs) {
    pass_through_sink(outputs, [core = weak_from_this()] {
      if (const auto alive = core.lock()) alive->queue_delayed_allreduce();
    });
  }

  void queue_delayed_allreduce() {
    {
      const MutexLock lock(order_mutex_);
      if (!reduction_->order.awaits()) return;
    }
    if (std::exchange(delayed_allreduce_queued_, true)) return;
    torch::autograd::Engine::get_default_engine().queue_callback([core = weak_from_this()] {
      if (const auto alive = core.lock()) alive->delay_all_reduce();
    });
  }

  // At the end of the backward pass. One that brought no gradient of a parameter (autograd::grad()
  // of an input, for a gradient penalty) is not the pass to learn from, so the flag is taken back
  // and the next pass tries again. Python's class takes it for the first one, reduces nothing in
  // it, and its ranks drift apart from then on.
  void delay_all_reduce() {
    {
      const MutexLock lock(order_mutex_);
      delayed_allreduce_queued_ = reduction_->order.reduces();
    }
    if (delayed_allreduce_queued_) reduction_->reducer->delay_all_reduce();
  }

  // Comes after the sink, whose outputs are those that backward begins at. The hooks hold this
  // step's number: a second backward pass through an earlier step's outputs is recognised by it.
  void watch_backward(const detail::FoundTensors& outputs) {
    bool all = outputs.opaque == nullptr;
    const auto on_backward = [core = weak_from_this(), step = step_.load()](size_t output) {
      if (const auto alive = core.lock()) alive->on_output(step, output);
    };
    const size_t watched = watch_outputs(outputs.tensors, on_backward, &all);
    const MutexLock lock(order_mutex_);
    reduction_->order.forward_ends(step_, watched, all, reduction_->reducer->unused_parameters());
  }

  // Below: called in a backward pass, on threads of the autograd engine (for CPU tensors that is
  // the thread that called backward()). What is thrown here comes out of backward().

  void on_output(uint64_t step, size_t output) {
    const int task = current_backward_task();
    const MutexLock lock(order_mutex_);
    if (reduction_->order.output_reached(task, step, output)) call_at_end(task);
  }

  // Our hook on a parameter runs before the Reducer's (gradient_watch.h), so at a step's first
  // gradient no bucket has been sent yet, and what ranks must agree on before the first one is can
  // still be agreed on here.
  void on_gradient(size_t parameter) {
    if (!takes_gradient(parameter)) return;
    if (join_) join_->announce_backward(number_in_join_);
    // The notes say which buckets are left out, and are compared before the first one is sent: Gloo
    // ends the process of a rank that receives a longer bucket than it expects.
    if (options_.skip_all_reduce_unused_params)
      await_others(str_cat("the backward pass of step ", step_));
  }

  // Whether it is the first gradient of a step that will be reduced. Outside of the lock, the
  // caller then talks to the other ranks.
  bool takes_gradient(size_t parameter) {
    const int task = current_backward_task();
    const MutexLock lock(order_mutex_);
    const bool reduced_before = reduction_->order.reduces();
    bool first_of_task = false;
    throw_if(reduction_->order.gradient(task, parameter, &first_of_task));
    if (first_of_task) call_at_end(task);
    if (reduced_before || !reduction_->order.reduces()) return false;
    say_backward();
    return true;
  }

  // Posts the note of this backward pass, and does not wait: it travels while backward computes,
  // and on_reduced() awaits the others' notes at its end. So notes cost no time, and the step
  // counts only when all agree. check_cleared_within_window() comes first, or the others would be
  // told of a pass that fails here.
  void say_backward() LONGHAUL_REQUIRES(order_mutex_) {
    uint64_t layout = 0;
    std::string why;
    check_cleared_within_window();
    if (options_.skip_all_reduce_unused_params) {
      const std::vector<size_t> skipped = reduction_->reducer->skipped_parameters();
      check_accumulated_is_sent(skipped);
      layout = layout_hash(skipped);
      why = skipped.empty() ? "which leaves nothing out"
                            : str_cat("which leaves out ", reduction_->order.names_of(skipped));
    }
    say(Phase::kBackward, step_, layout, std::move(why), reduction_->parameters.count_changes());
  }

  // The Reducer remembers over passes in no_sync() which parameters were used. When such a
  // parameter's gradient has been cleared since, the Reducer takes that for a bug in DDP and names
  // no parameter; this check says what happened.
  void check_cleared_within_window() const LONGHAUL_REQUIRES(order_mutex_) {
    if (!options_.find_unused_parameters || options_.static_graph) return;
    const auto cleared = [&](size_t parameter) {
      return !reduction_->reducer->gradient_of(parameter).defined();
    };
    throw_if_local(reduction_->reducer->unused_parameters(), cleared,
                   " got a gradient in no_sync() that was cleared before a pass reduced it, and "
                   "none in the pass that reduces; call zero_grad() before the first pass of a "
                   "window, or set gradients to zero instead of removing them");
  }

  // What passes in no_sync() added up is this rank's own until it is reduced. When its bucket is
  // left out, it would reach this rank's optimizer alone. Python's class lets that happen, and its
  // ranks drift apart.
  void check_accumulated_is_sent(const std::vector<size_t>& skipped) const
      LONGHAUL_REQUIRES(order_mutex_) {
    const auto is_something = [&](size_t parameter) {
      const at::Tensor& gradient = reduction_->reducer->gradient_of(parameter);
      return gradient.defined() && (gradient.is_sparse() || at::any(gradient).item<bool>());
    };
    throw_if_local(skipped, is_something,
                   " got a gradient in no_sync() and none in the pass that reduces, which "
                   "skip_all_reduce_unused_params leaves out: what was accumulated would stay on "
                   "this rank; use find_unused_parameters without it");
  }

  // Those of `parameters` that got a gradient in no_sync() since the last reduction and are
  // `wrong`.
  template <typename Wrong>
  void throw_if_local(const std::vector<size_t>& parameters, const Wrong& wrong,
                      const char* what) const LONGHAUL_REQUIRES(order_mutex_) {
    std::vector<size_t> found;
    for (const size_t parameter : parameters) {
      if (reduction_->order.has_local_gradient(parameter) && wrong(parameter))
        found.push_back(parameter);
    }
    if (!found.empty())
      throw Error(ErrorKind::kInvalid,
                  str_cat("step ", step_, ": ", reduction_->order.names_of(found), what));
  }

  // Both callbacks run at the end of the task, on the same thread, one after the other; so
  // computed_ needs no lock. The Reducer queues its own callback when its last bucket is ready,
  // which is later than this call: it runs between the two, and the time between them is counted as
  // waiting for communication.
  void call_at_end(int task) {
    at_end_of_backward(
        [core = weak_from_this()] {
          if (const auto alive = core.lock()) alive->computed_ = SystemClock().now();
        },
        [core = weak_from_this(), task] {
          if (const auto alive = core.lock()) alive->on_backward_end(task);
        });
  }

  // The Reducer's callback has run: if it had all gradients, it has waited for all buckets and
  // copied them back into the gradients.
  void on_backward_end(int task) {
    const bool finished = !reduction_->reducer->expects_gradients();
    bool reduced = false;
    PassOrder::Problem problem;
    {
      const MutexLock lock(order_mutex_);
      reduced = finished && reduction_->order.reduces();
      problem = reduction_->order.backward_ends(task, finished);
    }
    if (reduced) on_reduced();
    throw_if(problem);
  }

  // All gradients are averages now. The notes say whether they are averages of the same step: they
  // have usually arrived long before, because each rank posted its own at its first gradient.
  void on_reduced() {
    if (delayed_) delayed_->reduce(delayed_parameters());
    const bool same_changes = await_others(str_cat("the backward pass of step ", step_));
    if (clock_armed_.exchange(false))
      communicator_->traffic().add_wait(seconds_between(computed_, SystemClock().now()));
    check_values_unless(same_changes);
  }

  // Values are compared only when the notes differ in how often parameters were written to. That
  // happens when a checkpoint was loaded on some ranks only, and may be harmless, because some
  // ranks may have written what was there already. Ranks that all write equally often, but
  // different values, are not noticed.
  void check_values_unless(bool same_changes) {
    if (!same_changes) check_same_values(*communicator_, parameters_of(*module_, ignored()), step_);
  }

  void say(Phase phase, uint64_t step, uint64_t layout, std::string why, uint64_t changes = 0) {
    last_note_ = watch_->notes().post({phase, wrapper_, step, layout, changes, std::move(why)});
  }
  // Whether all ranks changed their parameters in the same way.
  bool await_others(const std::string& what) {
    return watch_->await_notes(last_note_.value(), what);
  }

  const std::shared_ptr<Communicator> communicator_;
  const std::shared_ptr<OperationWatch> watch_;
  const uint32_t wrapper_;  // which wrapped model of the world, by order of construction
  const std::shared_ptr<Module> module_;
  const DistributedDataParallelOptions options_;
  std::atomic<uint64_t> step_ = 0;  // read by the hook, on a thread of the autograd engine
  bool sync_gradients_ = true;
  // Whether the next forward pass sets buffers: PyTorch's require_forward_param_sync.
  bool forward_syncs_ = true;
  bool trains_nothing_ = false;  // all parameters are frozen
  // Of a static graph: the pass that learns it has been found.
  bool delayed_allreduce_queued_ = false;
  std::atomic<bool> clock_armed_ = false;      // the next backward pass is to be measured
  Instant computed_;                           // when its last gradient was there
  std::optional<uint64_t> last_note_;          // number of the note that was posted last
  Mutex order_mutex_;                          // guards reduction_->order
  CommHook comm_hook_;                         // empty: none
  std::unique_ptr<DelayedReduction> delayed_;  // null: not asked for
  std::shared_ptr<JoinGroup> join_;            // null: within none
  size_t number_in_join_ = 0;
  Rank authority_ = 0;  // within a Join: whose buffers hold in this pass
  // Null in a world of one without a communication hook, and after hook() failed. Last, because its
  // hooks read step_ and what stands above.
  std::unique_ptr<Reduction> reduction_;
};

}  // namespace

std::shared_ptr<detail::DdpCore> detail::DdpCore::create(
    std::shared_ptr<Communicator> communicator, std::shared_ptr<torch::nn::Module> module,
    const DistributedDataParallelOptions& options) {
  if (!communicator || !module)
    throw Error(ErrorKind::kInvalid, "DistributedDataParallel needs a world and a model, not null");
  auto core = std::make_shared<DdpCoreImpl>(std::move(communicator), std::move(module), options);
  core->start();
  return core;
}

}  // namespace longhaul
