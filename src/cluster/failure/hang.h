// Nothing moves any more: who is behind, and who waits for it? Pure, as failure.h, but it decides
// on nothing: a collective's own deadline does that. It is for people who look.
//
// Seen of ranks that called init(): they tell every second how many collectives they have begun and
// which one runs. Of others (Python's, say) nothing of that is known, and they are never said to
// hang.
#pragma once

#include <optional>
#include <span>

#include "cluster/jobs/job.h"

namespace longhaul {

// Of a gang in which nothing has moved for a while. `ranks` are all ranks in rank order. nullopt:
// nothing says that anybody should have moved. stack, process_state and unix_ms_since are left
// empty.
//
// Behind is, in this order: a rank that has not called init() while others wait for it; one that no
// longer says anything; the one that has begun the fewest collectives, of several the one that is
// in none. Where all sit in the same collective nobody is.
std::optional<Hang> find_hang(std::span<const RankRecord> ranks, Instant now);

// When a rank last moved: it joined, or began a step or a collective.
Instant last_move(std::span<const RankRecord> ranks);

}  // namespace longhaul
