// What ranks within a Join tell each other before each pass: who still has inputs, and what the
// pass will exchange, so that those who are through can take part.
#pragma once

#include <memory>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <vector>

#include "longhaul/collectives/communicator.h"
#include "longhaul/ddp/join.h"

namespace longhaul {

// Of one pass, the same on every rank.
struct JoinedPass {
  std::vector<Rank> through;    // ranks without inputs
  int active = 0;               // ranks with
  Rank authority = -1;          // the highest of them: whose buffers hold
  size_t model = 0;             // which of the Join's models
  bool backward = false;        // a backward pass that reduces gradients; else a forward pass:
  bool with_gradients = false;  // not an evaluation
  bool reduces = false;         // its backward pass will reduce gradients
  bool learns_graph = false;    // and is the first of a static graph, which cannot be shadowed
};

// How the Reducer wants to be told by how many ranks to divide.
c10::intrusive_ptr<c10d::Work> count_as_work(int ranks);

class JoinGroup {
 public:
  // Collective.
  JoinGroup(Communicator& communicator, const JoinOptions& options);

  // Collective, from a rank about to run a pass. `model`: which of the Join's. Errors:
  // Error(kInvalid) when ranks run different passes; Error(kUnavailable) with throw_on_early_end.
  JoinedPass announce_forward(size_t model, bool with_gradients, bool reduces, bool learns_graph);
  JoinedPass announce_backward(size_t model);
  // Collective, from a rank that is through.
  JoinedPass follow();
  // Collective. The highest of the ranks that came last.
  Rank agree_on_last(bool came_last);
  const JoinOptions& options() const { return options_; }

 private:
  JoinedPass exchange(int64_t flags);
  std::vector<int64_t> gather(int64_t value);

  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
  const JoinOptions options_;
};

}  // namespace longhaul
