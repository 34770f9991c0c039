#include "cluster/scheduling/placement.h"

#include <algorithm>
#include <numeric>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// A room, and how many ranks of the gang in question it could take.
struct Offer {
  size_t room = 0;
  int fits = 0;   // without the gang's limit per worker
  int takes = 0;  // with it
};

std::string count(int64_t number, const std::string& thing) {
  return str_cat(number, " ", thing, number == 1 ? "" : "s");
}

Offer offer_of(const Demand& demand, size_t room, const Resources& resources) {
  const int fits = how_many(resources, demand.each);
  const int most = demand.max_per_worker;
  return {room, fits, most > 0 ? std::min(fits, most) : fits};
}

// The workers that could take some, the emptiest first.
std::vector<Offer> offers_of(const Demand& demand, std::span<const WorkerRoom> rooms) {
  std::vector<Offer> found;
  for (size_t i = 0; i < rooms.size(); ++i) {
    if (!rooms[i].ready) continue;
    const Offer one = offer_of(demand, i, rooms[i].free);
    if (one.takes > 0) found.push_back(one);
  }
  std::sort(found.begin(), found.end(), [&](const Offer& a, const Offer& b) {
    const WorkerRoom& left = rooms[a.room];
    const WorkerRoom& right = rooms[b.room];
    // Among workers with equal room those with fewer free GPUs come first: ranks that need none
    // leave hosts with GPUs to those that do.
    if (a.fits != b.fits) return a.fits > b.fits;
    return left.free.gpus != right.free.gpus ? left.free.gpus < right.free.gpus
                                             : left.id < right.id;
  });
  return found;
}

std::vector<Seats> pack(int ranks, const std::vector<Offer>& emptiest_first) {
  // Where one worker can take all, the one that is left with the least room does, so that large
  // gaps stay large. Else the emptiest workers first give the fewest hosts.
  const Offer* tightest = nullptr;
  for (const Offer& one : emptiest_first) {
    if (one.takes < ranks) continue;
    if (tightest == nullptr || one.fits < tightest->fits) tightest = &one;
  }
  if (tightest != nullptr) return {{tightest->room, ranks}};
  std::vector<Seats> seats;
  for (const Offer& one : emptiest_first) {
    if (ranks == 0) break;
    seats.push_back({one.room, std::min(ranks, one.takes)});
    ranks -= seats.back().ranks;
  }
  return seats;
}

// Rounds of one rank for each worker that has room left: nobody has two more than another that
// could have taken one.
std::vector<Seats> spread(int ranks, const std::vector<Offer>& emptiest_first) {
  std::vector<Seats> seats;
  for (int round = 0; ranks > 0; ++round) {
    for (size_t i = 0; i < emptiest_first.size() && ranks > 0; ++i) {
      if (emptiest_first[i].takes <= round) continue;
      if (round == 0) seats.push_back({emptiest_first[i].room, 0});
      ++seats[i].ranks;
      --ranks;
    }
  }
  return seats;
}

std::vector<Seats> same_on_each(const Demand& demand, const std::vector<Offer>& emptiest_first) {
  const int each = demand.max_per_worker;
  const auto most = static_cast<size_t>((demand.ranks + each - 1) / each);
  std::vector<Seats> seats;
  for (const Offer& one : emptiest_first) {
    // They are sorted by room, so none that follows can take `each` either.
    if (one.takes < each || seats.size() == most) break;
    seats.push_back({one.room, each});
  }
  if (seats.size() < static_cast<size_t>(demand.min_nodes)) seats.clear();
  return seats;
}

int ranks_at_least(const Demand& demand) {
  return demand.min_nodes > 0 ? demand.min_nodes * demand.max_per_worker : demand.ranks;
}

// Ranks 0, 1, ... over the shares as they stand. What GPUs they had follows no rank any more.
void number_ranks(std::vector<RankShare>& shares) {
  Rank next = 0;
  for (RankShare& share : shares) {
    std::iota(share.ranks.begin(), share.ranks.end(), next);
    next += static_cast<Rank>(share.ranks.size());
  }
}

// Takers of an otherwise empty cluster, and how many ranks they take together.
struct Largest {
  std::vector<int> takes;  // of workers that take some
  int64_t ranks = 0;
};

Largest largest_of(const Demand& demand, std::span<const WorkerRoom> rooms) {
  Largest largest;
  for (size_t i = 0; i < rooms.size(); ++i) {
    // Nobody knows when a drained worker takes ranks again: a gang that needs it holds up nobody
    // meanwhile.
    if (rooms[i].drained) continue;
    // All that the worker has, also where it is silent now: it may return.
    int takes = offer_of(demand, i, rooms[i].total).takes;
    if (demand.min_nodes > 0 && takes < demand.max_per_worker) takes = 0;
    if (takes == 0) continue;
    largest.takes.push_back(takes);
    largest.ranks += takes;
  }
  return largest;
}

}  // namespace

std::vector<Seats> find_seats(const Demand& demand, std::span<const WorkerRoom> rooms) {
  const std::vector<Offer> emptiest_first = offers_of(demand, rooms);
  if (demand.min_nodes > 0) return same_on_each(demand, emptiest_first);
  int64_t available = 0;
  for (const Offer& one : emptiest_first) available += one.takes;
  if (available < demand.ranks) return {};
  return demand.style == PlacementStyle::kSpread ? spread(demand.ranks, emptiest_first)
                                                 : pack(demand.ranks, emptiest_first);
}

bool could_ever_fit(const Demand& demand, std::span<const WorkerRoom> rooms) {
  return largest_of(demand, rooms).ranks >= ranks_at_least(demand);
}

std::vector<RankShare> shares_of(const std::vector<Seats>& seats,
                                 std::span<const WorkerRoom> rooms) {
  std::vector<RankShare> shares;
  shares.reserve(seats.size());
  for (const Seats& one : seats) {
    shares.push_back({rooms[one.room].id, std::vector<Rank>(static_cast<size_t>(one.ranks)), {}});
  }
  number_ranks(shares);
  return shares;
}

std::string what_it_needs(const Demand& demand) {
  std::string text = str_cat("needs ", count(ranks_at_least(demand), "slot"));
  const std::string more = beyond_slots(demand.each);
  if (!more.empty()) text += str_cat(" with ", more, " each");
  if (demand.min_nodes > 0) {
    text += str_cat(": ", count(demand.min_nodes, "worker"), " with ", demand.max_per_worker,
                    " free each at least");
  } else if (demand.max_per_worker > 0) {
    text += str_cat(", at most ", demand.max_per_worker, " on a worker");
  }
  return text;
}

std::string why_it_waits(const Demand& demand, std::span<const WorkerRoom> rooms) {
  std::vector<const WorkerRoom*> ready;
  int silent = 0;
  int drained = 0;
  Resources free;
  Resources total;
  for (const WorkerRoom& room : rooms) {
    if (!room.ready) {
      ++(room.drained ? drained : silent);
      continue;
    }
    ready.push_back(&room);
    free = free + room.free;
    total = total + room.total;
  }
  std::sort(ready.begin(), ready.end(), [](const auto* a, const auto* b) { return a->id < b->id; });
  std::vector<std::string> parts;
  for (const WorkerRoom* room : ready) {
    if (parts.size() == 8) {
      parts.emplace_back("...");
      break;
    }
    parts.push_back(str_cat(room->id, " ", how_many(room->free, demand.each)));
  }
  std::string text = what_it_needs(demand);
  if (ready.empty()) {
    text += "; no worker is ready";
  } else {
    const auto workers = static_cast<int64_t>(ready.size());
    text += str_cat("; ", count(workers, "worker"), workers == 1 ? " is" : " are", " ready with ",
                    free.slots, " free of ", total.slots);
    if (demand.each.gpus > 0) text += str_cat(", ", free.gpus, " of ", count(total.gpus, "GPU"));
    if (demand.each.memory_bytes > 0) {
      text += str_cat(", ", format_bytes(free.memory_bytes), " of ",
                      format_bytes(total.memory_bytes), " of memory");
    }
    text += ": " + join(parts, ", ");
  }
  if (silent > 0) text += str_cat("; ", count(silent, "worker"), " unreachable");
  if (drained > 0) text += str_cat("; ", count(drained, "worker"), " drained");
  if (!rooms.empty() && !could_ever_fit(demand, rooms)) {
    text +=
        drained > 0 ? "; what is left is too small" : "; it is larger than all workers together";
  }
  return text;
}

std::string why_it_never_fits(const Demand& demand, const std::string& noun,
                              std::span<const WorkerRoom> rooms) {
  const Largest largest = largest_of(demand, rooms);
  const std::string more = beyond_slots(demand.each);
  if (largest.ranks == 0) {
    Resources most;
    for (const WorkerRoom& room : rooms) {
      most = {std::max(most.slots, room.total.slots), std::max(most.gpus, room.total.gpus),
              std::max(most.memory_bytes, room.total.memory_bytes)};
    }
    const bool on_one = demand.min_nodes > 0 && demand.max_per_worker > 1;
    return str_cat(
        on_one ? count(demand.max_per_worker, noun) + " on one node" : "a " + noun,
        more.empty() ? "" : str_cat(" with ", more, on_one ? " each" : ""),
        " asked, and no node has that: of all nodes the most is ", count(most.slots, "slot"),
        demand.each.gpus > 0 ? ", " + count(most.gpus, "GPU") : "",
        demand.each.memory_bytes > 0 ? str_cat(", ", format_bytes(most.memory_bytes), " of memory")
                                     : "");
  }
  const auto nodes = static_cast<int64_t>(largest.takes.size());
  const bool equal = std::all_of(largest.takes.begin(), largest.takes.end(),
                                 [&](int takes) { return takes == largest.takes.front(); });
  const std::string each_has = more.empty() ? "slot" : noun;
  const std::string shape =
      equal ? str_cat(count(nodes, "node"), " x ", count(largest.takes.front(), each_has))
            : str_cat(count(nodes, "node"), " with ", count(largest.ranks, each_has), " together");
  return str_cat(
      count(ranks_at_least(demand), noun), more.empty() ? "" : " with " + more + " each",
      " asked, the largest that fits is ", largest.ranks, ": ", shape,
      demand.max_per_worker > 0 ? str_cat(" (at most ", demand.max_per_worker, " on a node)") : "");
}

std::vector<RankShare> keep_node_ranks(std::vector<RankShare> shares,
                                       const std::vector<WorkerId>& before) {
  std::vector<RankShare> ordered(shares.size());
  std::vector<RankShare> others;
  for (RankShare& share : shares) {
    const auto old = std::find(before.begin(), before.end(), share.worker);
    const auto place = static_cast<size_t>(old - before.begin());
    // Node ranks have no gaps, so a worker can keep only one that the new gang has.
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
