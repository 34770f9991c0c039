#include "collectives/bucket_layout.h"

#include <algorithm>

namespace longhaul {
namespace {

// The largest block of a codec: a boundary inside one would cost a short block. It also keeps
// chunks on cache lines.
constexpr size_t kBlockElements = 4096;
// Where one round is cheaper than two (docs/compression.md): it sends (n-1)(n-2)/n times a piece
// more, and saves a latency.
constexpr size_t kOneRoundBytes = size_t{32} << 10;
constexpr int kOneRoundRanks = 4;

// The start of share `index` of `shares` of so many elements. Quotient and remainder are scaled
// apart: count * index could overflow. Boundaries are moved down to those of blocks only where
// every share has at least four blocks, so that shares stay nearly even.
size_t share_start(size_t count, size_t shares, size_t index) {
  if (index == shares) return count;
  const size_t exact = count / shares * index + count % shares * index / shares;
  return count >= 4 * shares * kBlockElements ? exact / kBlockElements * kBlockElements : exact;
}

}  // namespace

BucketLayout::BucketLayout(size_t element_count, size_t element_bytes, int ranks)
    : element_count_(element_count),
      ranks_(static_cast<size_t>(ranks)),
      piece_count_(
          std::max<size_t>(1, (element_count * element_bytes + kPieceBytes - 1) / kPieceBytes)) {}

ElementRange BucketLayout::piece(size_t index) const {
  const size_t first = share_start(element_count_, piece_count_, index);
  return {first, share_start(element_count_, piece_count_, index + 1) - first};
}

ElementRange BucketLayout::chunk(const ElementRange& piece, Rank owner) const {
  const auto index = static_cast<size_t>(owner);
  const size_t first = share_start(piece.count, ranks_, index);
  return {piece.first + first, share_start(piece.count, ranks_, index + 1) - first};
}

bool takes_one_round(size_t piece_bytes, int ranks) {
  return ranks == 2 || (ranks <= kOneRoundRanks && piece_bytes <= kOneRoundBytes);
}

size_t most_elements_bytes(int ranks) {
  // A boundary moved to that of a block makes a share longer by a block of the widest elements,
  // once for the piece and once for the chunk; an uneven share by one element.
  constexpr size_t kUneven = 2 * kBlockElements * sizeof(double);
  const size_t shared = BucketLayout::kPieceBytes / (ranks == 2 ? 1 : static_cast<size_t>(ranks));
  return std::max(shared, kOneRoundBytes) + kUneven;
}

}  // namespace longhaul
