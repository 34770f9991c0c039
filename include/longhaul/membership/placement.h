// Which worker takes which ranks of a gang: all ranks or none.
#pragma once

#include <string>
#include <vector>

#include "longhaul/membership/ids.h"

namespace longhaul {

// What a worker could take now.
struct WorkerRoom {
  WorkerId id;
  int slots = 0;
  int free = 0;
  bool ready = false;    // false: unreachable, but its lease still runs; or drained
  bool drained = false;  // nothing new is placed there, maybe for days
};

struct RankShare {
  WorkerId worker;
  std::vector<Rank> ranks;  // consecutive

  bool operator==(const RankShare&) const = default;
};

struct PlacementDecision {
  std::vector<RankShare> shares;  // in rank order; empty: the job must wait
  std::string reason;             // why it waits, with numbers
  bool impossible = false;        // no amount of waiting helps with the workers there are
};

// Takes the one worker whose free slots fit most tightly, else the emptiest workers first: fewest
// hosts. `max_per_worker` 0: no limit. Equal inputs give equal answers, whatever the order of
// `rooms`.
PlacementDecision place_gang(int ranks, int max_per_worker, std::vector<WorkerRoom> rooms);

// The same number of ranks on each of MIN to MAX workers (torchrun's --nnodes MIN:MAX), on as many
// as there is room for now.
PlacementDecision place_nodes(int min_nodes, int max_nodes, int ranks_per_node,
                              std::vector<WorkerRoom> rooms);

// The shares in an order in which workers of `before` (in node-rank order, of the attempt before)
// keep their node rank as far as the number of shares allows; ranks are counted afresh.
std::vector<RankShare> keep_node_ranks(std::vector<RankShare> shares,
                                       const std::vector<WorkerId>& before);

}  // namespace longhaul
