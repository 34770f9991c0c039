#include "ddp/pass_order.h"

#include <algorithm>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Beyond so many forward passes without a backward pass the oldest are forgotten, or a program that
// never calls backward() would fill memory.
constexpr size_t kMaxPasses = 64;
constexpr size_t kNamesShown = 8;

constexpr const char* kOneBackward =
    "call backward() once, on the sum of the losses, or put the earlier passes into no_sync()";

}  // namespace

PassOrder::PassOrder(std::vector<std::string> names, bool static_graph, uint64_t finished_step)
    : names_(std::move(names)),
      static_graph_(static_graph),
      finished_step_(finished_step),
      arrived_(names_.size()),
      unused_(names_.size()),
      local_(names_.size()) {}

PassOrder::Problem PassOrder::forward_begins() {
  const bool left_open = std::any_of(tasks_.begin(), tasks_.end(),
                                     [](const auto& task) { return task.second.reduces; });
  if (left_open) {
    return str_cat("the backward pass of step ", step(),
                   " was left by an exception before its gradients were reduced, and this "
                   "DistributedDataParallel cannot go on: make a new one");
  }
  // The tasks that are left were ended by an exception before they brought the Reducer a gradient,
  // so backward_ends() never came; they do no harm.
  tasks_.clear();
  if (reduces()) return unfinished();
  return std::nullopt;
}

void PassOrder::forward_ends(uint64_t step, size_t outputs, bool all_watched,
                             const std::vector<size_t>& unused) {
  if (passes_.size() >= kMaxPasses) {
    passes_.erase(passes_.begin());
    // Backward may still come to outputs of the forgotten pass, so that all outputs had their turn
    // must not be concluded any more.
    passes_.front().all_watched = false;
  }
  passes_.push_back({step, std::vector<bool>(outputs), all_watched});
  // As prepare_for_backward() does in the Reducer: what has arrived so far does not count for this
  // pass. forward_begins() has refused the pass if a reduction was under way.
  awaiting_ = true;
  arrivals_ = 0;
  std::fill(arrived_.begin(), arrived_.end(), 0);
  std::fill(unused_.begin(), unused_.end(), false);
  for (const size_t parameter : unused) unused_[parameter] = true;
}

PassOrder::Task& PassOrder::task_of(int task, bool* first) {
  const auto [found, inserted] = tasks_.try_emplace(task);
  *first = inserted;
  return found->second;
}

bool PassOrder::output_reached(int task, uint64_t step, size_t output) {
  bool first = false;
  Task& of = task_of(task, &first);
  if (step <= finished_step_) of.of_finished = step;
  for (Pass& pass : passes_) {
    if (pass.step != step) continue;
    pass.reached[output] = true;
    of.of_open_pass = true;
  }
  return first;
}

PassOrder::Problem PassOrder::gradient(int task, size_t parameter, bool* first_of_task) {
  Task& of = task_of(task, first_of_task);
  // A task may go through a finished pass and an open one (a loss that keeps an earlier output).
  // Then it may well be the one that brings the open pass its gradients.
  if (of.of_finished && !of.of_open_pass) {
    return str_cat("a second backward pass through the outputs of step ", *of.of_finished,
                   ", whose gradients were reduced already: what it adds would stay on this rank; ",
                   kOneBackward);
  }
  if (!awaiting_) {
    // The Reducer ignores it, so it only accumulates on this rank until the next reduction.
    local_[parameter] = true;
    if (!static_graph_ || learned_) return std::nullopt;
    return std::string(
        "a backward pass that does not reduce (in no_sync()) before the first that does: with "
        "static_graph the first one must reduce, because the graph is learned from it; begin with "
        "one outside no_sync(), or leave static_graph off");
  }
  of.reduces = true;
  ++arrivals_;
  ++arrived_[parameter];
  return second_gradient(parameter);
}

PassOrder::Problem PassOrder::second_gradient(size_t parameter) const {
  const std::string what = str_cat("parameter '", names_[parameter], "' got ");
  if (static_graph_) {
    if (!learned_ || arrived_[parameter] <= (*learned_)[parameter]) return std::nullopt;
    return str_cat(what, arrived_[parameter], " gradients in step ", step(), " and ",
                   (*learned_)[parameter],
                   " in the first one: with static_graph every step must use the same parameters, "
                   "equally often");
  }
  if (unused_[parameter]) {
    return str_cat(what, "a gradient in step ", step(),
                   " although the outputs of the last forward pass do not depend on it: with "
                   "find_unused_parameters each forward pass needs a backward pass of its own, on "
                   "a loss of its outputs alone");
  }
  if (arrived_[parameter] < 2) return std::nullopt;
  return str_cat(what, "a second gradient in step ", step(),
                 " before all others had their first: ", kOneBackward,
                 " (or, when one backward pass uses it several times, set static_graph)");
}

PassOrder::Problem PassOrder::backward_ends(int task, bool finished) {
  const auto found = tasks_.find(task);
  if (found == tasks_.end()) return std::nullopt;
  const bool may_be_last = found->second.of_open_pass && found->second.reduces;
  tasks_.erase(found);
  if (!reduces()) return std::nullopt;
  if (finished) return finish();
  // Another backward pass may bring the gradients that are missing, unless backward has come to
  // every output already: then none can.
  return may_be_last && everything_reached() ? unfinished() : std::nullopt;
}

// All passes since the last reduction are finished, those too whose outputs backward never came to:
// the Reducer reduces once for all of them.
PassOrder::Problem PassOrder::finish() {
  if (!learned_) learned_ = arrived_;
  finished_step_ = step();
  passes_.clear();
  awaiting_ = false;
  arrivals_ = 0;
  std::fill(local_.begin(), local_.end(), false);
  return std::nullopt;
}

bool PassOrder::everything_reached() const {
  return std::all_of(passes_.begin(), passes_.end(), [](const Pass& pass) {
    return pass.all_watched &&
           std::find(pass.reached.begin(), pass.reached.end(), false) == pass.reached.end();
  });
}

// In the first pass of a static graph nothing is expected: what it brings is what will be.
std::vector<size_t> PassOrder::missing() const {
  std::vector<size_t> missing;
  for (size_t i = 0; i < names_.size(); ++i) {
    const uint32_t expected = !static_graph_ ? 1 : learned_ ? (*learned_)[i] : 0;
    if (!unused_[i] && arrived_[i] < expected) missing.push_back(i);
  }
  return missing;
}

PassOrder::Problem PassOrder::unfinished() const {
  const std::vector<size_t> without = missing();
  if (without.empty()) {
    return str_cat("the backward pass of step ", step(),
                   " ended before its gradients were reduced, though every parameter got its own: "
                   "call backward() once, on a loss of the last forward pass's outputs");
  }
  const std::string who =
      str_cat(names_of(without), " got ",
              static_graph_ ? "fewer gradients than in the first step, " : "no gradient ",
              "in step ", step(), ", so the gradients of that step are not all reduced: ");
  if (static_graph_)
    return who + "with static_graph every step must use the same parameters, equally often";
  return who +
         "set the option find_unused_parameters when some steps leave parameters out, and "
         "make the loss depend on every output of forward()";
}

std::string PassOrder::names_of(const std::vector<size_t>& parameters) const {
  std::vector<std::string> quoted;
  for (size_t i = 0; i < std::min(parameters.size(), kNamesShown); ++i) {
    quoted.push_back(str_cat("'", names_[parameters[i]], "'"));
  }
  const std::string more = parameters.size() > kNamesShown
                               ? str_cat(" and ", parameters.size() - kNamesShown, " more")
                               : "";
  return str_cat(parameters.size() == 1 ? "parameter " : "parameters ", join(quoted, ", "), more);
}

}  // namespace longhaul
