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
  for (const WorkerRoom& room : rooms) {
    if (!room.ready) {
      ++silent;
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
  if (impossible && !rooms.empty()) text += "; it is larger than all workers together";
  return text;
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
    possible += capped(room.slots, max_per_worker);
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

  Rank next = 0;
  const auto give = [&](const WorkerRoom& room, int takes) {
    RankShare share{room.id, std::vector<Rank>(static_cast<size_t>(takes))};
    std::iota(share.ranks.begin(), share.ranks.end(), next);
    next += takes;
    decision.shares.push_back(std::move(share));
  };
  if (tightest != nullptr) {
    give(*tightest, ranks);
    return decision;
  }
  for (const WorkerRoom& room : rooms) {
    const int takes = room.ready ? std::min(ranks - next, capped(room.free, max_per_worker)) : 0;
    if (takes > 0) give(room, takes);
  }
  return decision;
}

}  // namespace longhaul
