// Which worker takes which ranks of a gang: all ranks or none.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "cluster/scheduling/resources.h"
#include "longhaul/agent/ids.h"

namespace longhaul {

enum class PlacementStyle {
  kPack,    // on as few workers as possible
  kSpread,  // on as many as possible, as evenly as possible
};

// What a gang asks for.
struct Demand {
  int ranks = 1;
  Resources each{1, 0, 0};  // of one rank
  int max_per_worker = 0;   // ranks; 0: no limit
  // Elastic (torchrun's --nnodes MIN:MAX): max_per_worker ranks on each of so many workers, up to
  // `ranks` in all. 0: always `ranks`.
  int min_nodes = 0;
  PlacementStyle style = PlacementStyle::kPack;
};

// What a worker could take now.
struct WorkerRoom {
  WorkerId id;
  Resources total;
  Resources free;
  bool ready = false;    // false: unreachable, but its lease still runs; or drained
  bool drained = false;  // nothing new is placed there, maybe for days
};

struct RankShare {
  WorkerId worker;
  std::vector<Rank> ranks;  // consecutive
  // The worker's devices that are theirs alone: as many for each rank, in rank order.
  std::vector<int> gpus;

  bool operator==(const RankShare&) const = default;
};

// So many ranks on rooms[room].
struct Seats {
  size_t room = 0;
  int ranks = 0;

  bool operator==(const Seats&) const = default;
};

// Where the ranks may go, in rank order; empty: they do not fit. Packed: the one worker that they
// fill most tightly, else the emptiest workers first. Spread: as evenly as the rooms allow.
// Elastic: on as many workers as there is room for now. Where workers are equal for the gang, those
// with fewer free GPUs, then by id: the order of `rooms` is of no consequence.
std::vector<Seats> find_seats(const Demand& demand, std::span<const WorkerRoom> rooms);

// Whether it would fit if nothing else ran on any of them, and all were ready.
bool could_ever_fit(const Demand& demand, std::span<const WorkerRoom> rooms);

// The ranks over these seats; without GPUs yet.
std::vector<RankShare> shares_of(const std::vector<Seats>& seats,
                                 std::span<const WorkerRoom> rooms);

// "needs 4 slots": what it asks for, whatever there is.
std::string what_it_needs(const Demand& demand);
// "needs 4 slots; 2 workers are ready with 3 free of 4: gpu-a 1, gpu-b 2". The numbers behind the
// workers are ranks of this gang that would fit there now.
std::string why_it_waits(const Demand& demand, std::span<const WorkerRoom> rooms);
// "8 ranks asked, the largest that fits is 6: 2 nodes x 3 slots": for a gang that could never fit.
// `noun` is what is asked for, "rank" or "task".
std::string why_it_never_fits(const Demand& demand, const std::string& noun,
                              std::span<const WorkerRoom> rooms);

// The shares in an order in which workers of `before` (in node-rank order, of the attempt before)
// keep their node rank as far as the number of shares allows; ranks are counted afresh.
std::vector<RankShare> keep_node_ranks(std::vector<RankShare> shares,
                                       const std::vector<WorkerId>& before);

}  // namespace longhaul
