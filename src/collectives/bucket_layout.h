// How a bucket is cut for its journey. First into pieces, which travel one behind the other: while
// one is summed, the next is on the wire and the one after it is being encoded. Each piece into one
// chunk per rank, which that rank owns. A pure function of (element count, element size, world
// size), so that all ranks cut alike without a word.
#pragma once

#include <cstddef>

#include "longhaul/agent/ids.h"

namespace longhaul {

// Elements [first, first + count).
struct ElementRange {
  size_t first = 0;
  size_t count = 0;
};

class BucketLayout {
 public:
  // Small enough that several are on their way at once, large enough that a frame's header and a
  // codec's per-payload costs vanish.
  static constexpr size_t kPieceBytes = size_t{2} << 20;

  BucketLayout(size_t element_count, size_t element_bytes, int ranks);

  // At least one: an empty bucket is one empty piece, so that ranks still meet.
  size_t piece_count() const { return piece_count_; }
  ElementRange piece(size_t index) const;
  // Relative to the bucket, as all ranges here. As even as can be, on block boundaries where the
  // piece is large.
  ElementRange chunk(const ElementRange& piece, Rank owner) const;

 private:
  size_t element_count_;
  size_t ranks_;
  size_t piece_count_;
};

// Which exchange a piece takes: every rank sends all of it to everybody (one round), or the
// two-shot (two rounds, but 2/n of the bytes). Two ranks always take one round. Up to four take it
// for pieces so small that a second latency costs more than the extra bytes do on any link that
// Longhaul is for (docs/compression.md).
bool takes_one_round(size_t piece_bytes, int ranks);

// The most bytes of elements that any frame of any bucket carries in a world of so many ranks.
size_t most_elements_bytes(int ranks);

}  // namespace longhaul
