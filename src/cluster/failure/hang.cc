#include "cluster/failure/hang.h"

#include <algorithm>
#include <vector>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// A rank reports once a second, so several reports in a row are missing.
constexpr milliseconds kSilence{6'000};
constexpr size_t kNamed = 8;

using Ranks = std::vector<const RankRecord*>;

// In the program still, and needed by the others.
Ranks at_work(std::span<const RankRecord> ranks) {
  Ranks found;
  for (const RankRecord& rank : ranks) {
    if (!rank.accounted() && !rank.left) found.push_back(&rank);
  }
  return found;
}

bool is_in_collective(const RankRecord& rank) {
  return rank.progress && !rank.progress->operation.empty();
}

bool waits(const RankRecord& rank) {
  return is_in_collective(rank) || rank.waits_in_store_since.has_value();
}

bool is_silent(const RankRecord& rank, Instant now) {
  return rank.progress && now - rank.progress_at > kSilence;
}

uint64_t begun(const RankRecord& rank) {
  return rank.progress ? rank.progress->collective_sequence : 0;
}

const RankRecord* furthest_behind(const Ranks& ranks) {
  return *std::min_element(ranks.begin(), ranks.end(),
                           [](const RankRecord* a, const RankRecord* b) {
                             if (begun(*a) != begun(*b)) return begun(*a) < begun(*b);
                             if (waits(*a) != waits(*b)) return !waits(*a);
                             const auto step = [](const RankRecord* one) {
                               return one->progress ? one->progress->step : 0;
                             };
                             return step(a) < step(b);
                           });
}

// nullptr: they are all at the same place, and wait.
const RankRecord* who_is_behind(const Ranks& ranks, Instant now) {
  // In the order of find_hang()'s comment: what is surest first. What a rank reported last means
  // nothing when it reports no more, so silence goes before the count of collectives.
  for (const RankRecord* rank : ranks) {
    if (!rank->joined()) return rank;
  }
  for (const RankRecord* rank : ranks) {
    if (is_silent(*rank, now)) return rank;
  }
  const RankRecord* last = furthest_behind(ranks);
  const bool all_alike = waits(*last) && std::all_of(ranks.begin(), ranks.end(), [&](auto* rank) {
                           return waits(*rank) && begun(*rank) == begun(*last);
                         });
  return all_alike ? nullptr : last;
}

std::string name_ranks(const std::vector<Rank>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < std::min(ranks.size(), kNamed); ++i) {
    text += str_cat(i == 0 ? "" : i + 1 == ranks.size() ? " and " : ", ", ranks[i]);
  }
  if (ranks.size() > kNamed) text += str_cat(" and ", ranks.size() - kNamed, " more");
  return text;
}

std::string where(const RankRecord& rank) {
  if (!rank.joined()) return "it has not called init()";
  if (!rank.progress) return "in init()";
  const std::string step = str_cat("at step ", rank.progress->step, ", ");
  if (is_in_collective(rank)) {
    return str_cat(step, "in ", rank.progress->operation, " (collective ", begun(rank), ")");
  }
  return str_cat(step, "in no collective (", begun(rank), " begun)");
}

std::string what_they_wait_in(const Ranks& ranks, const std::vector<Rank>& waiting) {
  for (const RankRecord* rank : ranks) {
    if (rank->rank != waiting.front()) continue;
    if (!is_in_collective(*rank)) return "in init()";
    return str_cat("in ", rank->progress->operation, " (collective ", begun(*rank), ")");
  }
  return "";
}

std::string describe(const Ranks& ranks, const RankRecord* behind, const std::vector<Rank>& waiting,
                     Instant now) {
  if (behind == nullptr) {
    return str_cat(name_ranks(waiting), waiting.size() == 1 ? " is " : " are all ",
                   what_they_wait_in(ranks, waiting),
                   ", and none is behind: what connects them is slow or cut");
  }
  std::string text = str_cat("rank ", behind->rank, " on ", behind->worker, " (pid ", behind->pid,
                             ") is behind, ", where(*behind));
  if (is_silent(*behind, now)) {
    text += str_cat(", and says nothing any more: it is stopped, or its worker is cut off");
  }
  if (waiting.empty()) return text + "; nobody waits for it in a collective";
  return str_cat(text, "; ", name_ranks(waiting), waiting.size() == 1 ? " waits" : " wait",
                 " for it ", what_they_wait_in(ranks, waiting));
}

}  // namespace

std::optional<Hang> find_hang(std::span<const RankRecord> ranks, Instant now) {
  const Ranks working = at_work(ranks);
  const bool anybody_here =
      std::any_of(working.begin(), working.end(), [](auto* rank) { return rank->joined(); });
  // Of a program that never calls init() nothing is known, so it is never said to hang.
  if (!anybody_here) return std::nullopt;
  const RankRecord* behind = who_is_behind(working, now);
  Hang hang;
  for (const RankRecord* rank : working) {
    if (rank != behind && waits(*rank)) hang.waiting.push_back(rank->rank);
  }
  // Without anybody who waits it is a hang only where there were steps before.
  const bool steps_before = std::any_of(working.begin(), working.end(), [](auto* rank) {
    return rank->progress && rank->progress->step > 0;
  });
  if (hang.waiting.empty() && !steps_before) return std::nullopt;
  if (behind != nullptr) hang.rank = behind->rank;
  hang.message = describe(working, behind, hang.waiting, now);
  return hang;
}

Instant last_move(std::span<const RankRecord> ranks) {
  Instant last{};
  for (const RankRecord& rank : ranks) {
    last = std::max({last, rank.moved_at, rank.exited_at, rank.joined_at.value_or(Instant{})});
  }
  return last;
}

}  // namespace longhaul
