// Which forward and backward passes of one wrapped model may follow each other, so that every
// gradient is reduced once: what PyTorch's Reducer leaves unsaid, says a step later, or gets wrong
// in silence. Fed by hooks on the model's outputs and parameters; says what is wrong, in words, and
// does nothing itself.
//
// A backward pass is a task of the autograd engine, known by its number. It belongs to the forward
// passes whose outputs it goes through.
//
// Thread safety: one thread at a time; the owner locks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace longhaul {

class PassOrder {
 public:
  // What is wrong; nullopt: nothing.
  using Problem = std::optional<std::string>;

  // `names`: of the hooked parameters. Steps up to `finished_step` are none of ours.
  PassOrder(std::vector<std::string> names, bool static_graph, uint64_t finished_step);

  // A forward pass with gradients is about to begin.
  [[nodiscard]] Problem forward_begins();
  // A forward pass whose gradients are to be reduced has ended, with so many outputs that a hook
  // watches; `all_watched` when there are no others that backward could begin at. `unused`:
  // parameters of which the Reducer expects no gradient.
  void forward_ends(uint64_t step, size_t outputs, bool all_watched,
                    const std::vector<size_t>& unused);

  // Backward came to an output. Returns whether it is the first that is heard of this task; then
  // backward_ends() must follow at the end of the task, unless it fails.
  bool output_reached(int task, uint64_t step, size_t output);
  // A parameter's gradient is there, and the Reducer not told yet. `first_of_task` as above.
  [[nodiscard]] Problem gradient(int task, size_t parameter, bool* first_of_task);
  // Whether the Reducer waits for gradients, ...
  bool awaits() const { return awaiting_; }
  // ... and has got some.
  bool reduces() const { return awaiting_ && arrivals_ > 0; }
  uint64_t step() const { return passes_.empty() ? finished_step_ : passes_.back().step; }
  // The task is done, and the Reducer had its turn; `finished`: it has reduced all gradients.
  [[nodiscard]] Problem backward_ends(int task, bool finished);

  // Whether a pass in no_sync() brought the parameter a gradient since the last reduction.
  bool has_local_gradient(size_t parameter) const { return local_[parameter]; }
  // "parameters 'a', 'b' and 3 more".
  std::string names_of(const std::vector<size_t>& parameters) const;

 private:
  struct Pass {
    uint64_t step = 0;
    std::vector<bool> reached;  // by output
    bool all_watched = false;
  };
  struct Task {
    bool of_open_pass = false;                 // went through an output not yet reduced
    std::optional<uint64_t> of_finished = {};  // through one that was, of this step
    bool reduces = false;
  };

  Task& task_of(int task, bool* first);
  Problem second_gradient(size_t parameter) const;
  Problem finish();
  Problem unfinished() const;
  std::vector<size_t> missing() const;
  bool everything_reached() const;

  const std::vector<std::string> names_;
  const bool static_graph_;
  uint64_t finished_step_;
  bool awaiting_ = false;     // the Reducer expects gradients
  std::vector<Pass> passes_;  // since the last reduction
  size_t arrivals_ = 0;
  std::vector<uint32_t> arrived_;  // by parameter, since the last forward_ends()
  std::vector<bool> unused_;
  std::vector<bool> local_;                       // got a gradient while the Reducer awaited none
  std::optional<std::vector<uint32_t>> learned_;  // arrivals of the first reduced pass
  std::map<int, Task> tasks_;                     // that have not ended
};

}  // namespace longhaul
