#include "longhaul/membership/placement.h"

#include <algorithm>
#include <numeric>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

int capped(int slots, int max_per_worker) {
  return max_per_worker > 0 ? std::min(slots, max_per_worker) : slots;
}

std::string count(int number, const char* thing) {
  return str_cat(number, " ", thing, number == 1 ? "" : "s");
}

// "needs 4 slots; 2 workers are ready with 3 free of 4: gpu-a 1, gpu-b 2".
std::string why_it_waits(int ranks, int max_per_worker, const std::vector<WorkerRoom>& rooms,
                         bool impossible) {
  std::vector<std::string> parts;
  int ready = 0;
  int free = 0;
  int slots = 0;
  int silent = 0;
  int drained = 0;
  for (const WorkerRoom& room : rooms) {
    if (!room.ready) {
      ++(room.drained ? drained : silent);
      continue;
    }
    ++ready;
    free += room.free;
    slots += room.slots;
    if (parts.size() < 8) parts.push_back(str_cat(room.id, " ", room.free));
  }
  if (ready > 8) parts.emplace_back("...");
  std::string text = str_cat("needs ", count(ranks, "slot"));
  if (max_per_worker > 0) text += str_cat(", at most ", max_per_worker, " on a worker");
  text += ready == 0 ? std::string("; no worker is ready")
                     : str_cat("; ", count(ready, "worker"), ready == 1 ? " is" : " are",
                               " ready with ", free, " free of ", slots, ": ", join(parts, ", "));
  if (silent > 0) text += str_cat("; ", count(silent, "worker"), " unreachable");
  if (drained > 0) text += str_cat("; ", count(drained, "worker"), " drained");
  if (impossible && !rooms.empty()) {
    text +=
        drained > 0 ? "; what is left is too small" : "; it is larger than all workers together";
  }
  return text;
}

// Ranks 0, 1, ... over the shares as they stand.
void number_ranks(std::vector<RankShare>& shares) {
  Rank next = 0;
  for (RankShare& share : shares) {
    std::iota(share.ranks.begin(), share.ranks.end(), next);
    next += static_cast<Rank>(share.ranks.size());
  }
}

}  // namespace

PlacementDecision place_gang(int ranks, int max_per_worker, std::vector<WorkerRoom> rooms) {
  std::sort(rooms.begin(), rooms.end(), [](const WorkerRoom& a, const WorkerRoom& b) {
    return a.free != b.free ? a.free > b.free : a.id < b.id;
  });
  PlacementDecision decision;
  int possible = 0;
  int available = 0;
  const WorkerRoom* tightest = nullptr;
  for (const WorkerRoom& room : rooms) {
    if (!room.drained) possible += capped(room.slots, max_per_worker);
    if (!room.ready) continue;
    const int takes = capped(room.free, max_per_worker);
    available += takes;
    if (takes >= ranks && (tightest == nullptr || room.free < tightest->free)) tightest = &room;
  }
  if (available < ranks) {
    decision.impossible = possible < ranks;
    std::sort(rooms.begin(), rooms.end(),
              [](const WorkerRoom& a, const WorkerRoom& b) { return a.id < b.id; });
    decision.reason = why_it_waits(ranks, max_per_worker, rooms, decision.impossible);
    return decision;
  }

  const auto give = [&](const WorkerRoom& room, int takes) {
    decision.shares.push_back({room.id, std::vector<Rank>(static_cast<size_t>(takes))});
  };
  if (tightest != nullptr) {
    give(*tightest, ranks);
  } else {
    int left = ranks;
    for (const WorkerRoom& room : rooms) {
      const int takes = room.ready ? std::min(left, capped(room.free, max_per_worker)) : 0;
      if (takes > 0) give(room, takes);
      left -= takes;
    }
  }
  number_ranks(decision.shares);
  return decision;
}

PlacementDecision place_nodes(int min_nodes, int max_nodes, int ranks_per_node,
                              std::vector<WorkerRoom> rooms) {
  std::sort(rooms.begin(), rooms.end(), [](const WorkerRoom& a, const WorkerRoom& b) {
    return a.free != b.free ? a.free > b.free : a.id < b.id;
  });
  PlacementDecision decision;
  int possible = 0;
  for (const WorkerRoom& room : rooms) {
    if (!room.drained && room.slots >= ranks_per_node) ++possible;
    const bool wanted = static_cast<int>(decision.shares.size()) < max_nodes;
    if (wanted && room.ready && room.free >= ranks_per_node) {
      decision.shares.push_back({room.id, std::vector<Rank>(static_cast<size_t>(ranks_per_node))});
    }
  }
  if (static_cast<int>(decision.shares.size()) < min_nodes) {
    decision.shares.clear();
    decision.impossible = possible < min_nodes;
    std::sort(rooms.begin(), rooms.end(),
              [](const WorkerRoom& a, const WorkerRoom& b) { return a.id < b.id; });
    decision.reason = str_cat(
        count(min_nodes, "worker"), " with ", ranks_per_node, " free each at least; ",
        why_it_waits(min_nodes * ranks_per_node, ranks_per_node, rooms, decision.impossible));
    return decision;
  }
  number_ranks(decision.shares);
  return decision;
}

std::vector<RankShare> keep_node_ranks(std::vector<RankShare> shares,
                                       const std::vector<WorkerId>& before) {
  std::vector<RankShare> ordered(shares.size());
  std::vector<RankShare> others;
  for (RankShare& share : shares) {
    const auto old = std::find(before.begin(), before.end(), share.worker);
    const auto place = static_cast<size_t>(old - before.begin());
    const bool can_stay = old != before.end() && place < ordered.size();
    (can_stay ? ordered[place] : others.emplace_back()) = std::move(share);
  }
  // The rest into the places that are left.
  auto other = others.begin();
  for (RankShare& share : ordered) {
    if (share.ranks.empty()) share = std::move(*other++);
  }
  number_ranks(ordered);
  return ordered;
}

}  // namespace longhaul
