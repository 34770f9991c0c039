#include "codec/planes.h"

#include <bit>

#include "longhaul/base/check.h"

namespace longhaul {
namespace {

constexpr int kRotateFloat64 = 4;
constexpr int kRotateOthers = 1;

template <typename Word, int kRotate>
void split_scalar(const uint8_t* elements, size_t begin, size_t end, const PlanePointers& planes) {
  for (size_t i = begin; i < end; ++i) {
    const Word word = std::rotl(load<Word>(elements + i * sizeof(Word)), kRotate);
    for (size_t p = 0; p < sizeof(Word); ++p) planes[p][i] = static_cast<uint8_t>(word >> (8 * p));
  }
}

template <typename Word, int kRotate>
void merge_scalar(const ConstPlanePointers& planes, size_t begin, size_t end, uint8_t* elements) {
  for (size_t i = begin; i < end; ++i) {
    Word word = 0;
    for (size_t p = 0; p < sizeof(Word); ++p) {
      word = static_cast<Word>(word | static_cast<Word>(Word{planes[p][i]} << (8 * p)));
    }
    store(elements + i * sizeof(Word), std::rotr(word, kRotate));
  }
}

}  // namespace

SimdLevel best_simd_level() {
  return SimdLevel::kScalar;
}

void split_planes(ElementType type, SimdLevel, const uint8_t* elements, size_t count,
                  const PlanePointers& planes) {
  switch (element_bytes(type)) {
    case 2:
      return split_scalar<uint16_t, kRotateOthers>(elements, 0, count, planes);
    case 4:
      return split_scalar<uint32_t, kRotateOthers>(elements, 0, count, planes);
    default:
      return split_scalar<uint64_t, kRotateFloat64>(elements, 0, count, planes);
  }
}

void merge_planes(ElementType type, SimdLevel, const ConstPlanePointers& planes, size_t count,
                  uint8_t* elements) {
  switch (element_bytes(type)) {
    case 2:
      return merge_scalar<uint16_t, kRotateOthers>(planes, 0, count, elements);
    case 4:
      return merge_scalar<uint32_t, kRotateOthers>(planes, 0, count, elements);
    default:
      return merge_scalar<uint64_t, kRotateFloat64>(planes, 0, count, elements);
  }
}

}  // namespace longhaul
