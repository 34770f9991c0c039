#include "codec/planes.h"

#include <bit>

#include "codec/planes_x86.h"

namespace longhaul {
namespace {

template <typename Word>
void split_scalar(const uint8_t* elements, size_t begin, size_t end, const PlanePointers& planes) {
  for (size_t i = begin; i < end; ++i) {
    const Word word =
        std::rotl(load<Word>(elements + i * sizeof(Word)), kPlaneRotation<sizeof(Word)>);
    for (size_t p = 0; p < sizeof(Word); ++p) planes[p][i] = static_cast<uint8_t>(word >> (8 * p));
  }
}

template <typename Word>
void merge_scalar(const ConstPlanePointers& planes, size_t begin, size_t end, uint8_t* elements) {
  for (size_t i = begin; i < end; ++i) {
    Word word = 0;
    for (size_t p = 0; p < sizeof(Word); ++p) {
      word = static_cast<Word>(word | static_cast<Word>(Word{planes[p][i]} << (8 * p)));
    }
    store(elements + i * sizeof(Word), std::rotr(word, kPlaneRotation<sizeof(Word)>));
  }
}

// The vectors' share of the work; returns how many elements that was.
size_t split_vectors(SimdLevel level, size_t width, const uint8_t* elements, size_t count,
                     const PlanePointers& planes) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx512) return split_planes_avx512(width, elements, count, planes);
  if (level == SimdLevel::kAvx2) return split_planes_avx2(width, elements, count, planes);
#endif
  return 0;
}

size_t merge_vectors(SimdLevel level, size_t width, const ConstPlanePointers& planes, size_t count,
                     uint8_t* elements) {
#if defined(__x86_64__)
  if (level == SimdLevel::kAvx512) return merge_planes_avx512(width, planes, count, elements);
  if (level == SimdLevel::kAvx2) return merge_planes_avx2(width, planes, count, elements);
#endif
  return 0;
}

}  // namespace

void split_planes(ElementType type, SimdLevel level, const uint8_t* elements, size_t count,
                  const PlanePointers& planes) {
  const size_t width = element_bytes(type);
  const size_t done = split_vectors(level, width, elements, count, planes);
  if (width == 2) return split_scalar<uint16_t>(elements, done, count, planes);
  if (width == 4) return split_scalar<uint32_t>(elements, done, count, planes);
  split_scalar<uint64_t>(elements, done, count, planes);
}

void merge_planes(ElementType type, SimdLevel level, const ConstPlanePointers& planes, size_t count,
                  uint8_t* elements) {
  const size_t width = element_bytes(type);
  const size_t done = merge_vectors(level, width, planes, count, elements);
  if (width == 2) return merge_scalar<uint16_t>(planes, done, count, elements);
  if (width == 4) return merge_scalar<uint32_t>(planes, done, count, elements);
  merge_scalar<uint64_t>(planes, done, count, elements);
}

}  // namespace longhaul
