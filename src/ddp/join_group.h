// What ranks within a Join tell each other before each forward pass: who still has inputs, and what
// the pass will exchange, so that those who are through can take part.
#pragma once

#include <memory>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <vector>

#include "longhaul/collectives/communicator.h"
#include "longhaul/ddp/join.h"

namespace longhaul {

// Of one forward pass, the same on every rank.
struct JoinedPass {
  std::vector<Rank> through;    // ranks without inputs
  int active = 0;               // ranks with
  Rank authority = -1;          // the highest of them: whose buffers hold
  size_t model = 0;             // which of the Join's models
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

  // Collective, from a rank about to run a forward pass. Throws with throw_on_early_end.
  // `model`: which of the Join's. Errors: Error(kInvalid) when ranks run different ones.
  JoinedPass announce(size_t model, bool with_gradients, bool reduces, bool learns_graph);
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
