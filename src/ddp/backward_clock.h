// Measures how long a backward pass waits for communication: from the moment its last gradient is
// computed until the Reducer has brought all buckets home (their copy back into the gradients
// included). With CUDA tensors that is time of the host, which NCCL hardly holds up.
//
// How: a hook on each parameter's gradient, installed before the Reducer's, queues a callback for
// the end of the backward pass when the first gradient comes. Callbacks run in the order they were
// queued, so it runs just before the Reducer's own (which waits), and queues another just behind
// that one.
#pragma once

#include <torch/csrc/autograd/function.h>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "longhaul/base/clock.h"
#include "longhaul/collectives/communicator.h"

namespace longhaul {

// However libtorch owns a node of the graph: by std::shared_ptr, and from 2.15 on by
// c10::intrusive_ptr.
using GraphNodePtr = decltype(std::declval<torch::autograd::Node&>().getptr());

class BackwardClock {
 public:
  BackwardClock(const std::vector<at::Tensor>& parameters,
                std::shared_ptr<Communicator> communicator);
  ~BackwardClock();

  // Said in the forward pass: the next backward pass is to be measured.
  void arm();

 private:
  struct State {
    std::shared_ptr<Communicator> communicator;  // outlives callbacks still queued
    std::atomic<bool> armed = false;
  };
  static void on_gradient(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
  std::vector<std::pair<GraphNodePtr, uintptr_t>> hooks_;
};

}  // namespace longhaul
