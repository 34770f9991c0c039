#include "collectives/gloo_order.h"

namespace longhaul {
namespace {

size_t divide_up(size_t value, size_t by) {
  return (value + by - 1) / by;
}

}  // namespace

std::vector<GlooChunk> gloo_chunks(size_t elements, size_t element_size, int ranks) {
  std::vector<GlooChunk> chunks;
  if (elements == 0) return chunks;
  const auto size = static_cast<size_t>(ranks);
  // Gloo cuts the elements into segments, at least two a rank and none above its limit, the same
  // number for each rank. Only where a rank's segments begin matters for the order.
  const size_t most = std::max<size_t>(1, kGlooMaxSegmentBytes / element_size);
  const size_t of_a_rank = divide_up(std::max(divide_up(elements, most), 2 * size), size);
  const size_t length = of_a_rank * divide_up(elements, of_a_rank * size);
  for (int owner = 0; owner < ranks; ++owner) {
    const size_t begin = static_cast<size_t>(owner) * length;
    if (begin >= elements) break;
    chunks.push_back({begin, std::min(elements, begin + length), owner});
  }
  return chunks;
}

}  // namespace longhaul
