#include "codec/convert.h"

#include <algorithm>

#include "base/check.h"
#include "codec/convert_element.h"
#include "codec/convert_x86.h"

namespace longhaul {
namespace {

float load_as_float(ElementType type, const uint8_t* elements, size_t i) {
  switch (type) {
    case ElementType::kFloat32:
      return load<float>(elements + 4 * i);
    case ElementType::kBFloat16:
      return float_of_bfloat16(load<uint16_t>(elements + 2 * i));
    case ElementType::kFloat16:
      return float_of_float16(load<uint16_t>(elements + 2 * i));
    case ElementType::kFloat64:
      return static_cast<float>(load<double>(elements + 8 * i));
  }
  throw BugError("no such element type");
}

void store_float(ElementType type, float value, uint8_t* elements, size_t i) {
  switch (type) {
    case ElementType::kFloat32:
      return store(elements + 4 * i, value);
    case ElementType::kBFloat16:
      return store(elements + 2 * i, bfloat16_of(value));
    case ElementType::kFloat16:
      return store(elements + 2 * i, float16_of(value));
    case ElementType::kFloat64:
      return store(elements + 8 * i, static_cast<double>(value));
  }
}

}  // namespace

void to_float32(ElementType type, SimdLevel level, const uint8_t* elements, size_t count,
                uint8_t* floats) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx2) i = to_float32_avx2(type, elements, count, floats);
#endif
  for (; i < count; ++i) store(floats + 4 * i, load_as_float(type, elements, i));
}

void from_float32(ElementType type, SimdLevel level, const uint8_t* floats, size_t count,
                  uint8_t* elements) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx2) i = from_float32_avx2(type, floats, count, elements);
#endif
  for (; i < count; ++i) store_float(type, load<float>(floats + 4 * i), elements, i);
}

void to_bfloat16_stochastic(SimdLevel level, const uint8_t* floats, size_t count,
                            const RoundingKey& key, uint32_t first, uint8_t* elements) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx2) {
    i = to_bfloat16_stochastic_avx2(floats, count, key, first, elements);
  }
#endif
  for (; i < count; ++i) {
    const uint32_t random = random_bits(key, first + static_cast<uint32_t>(i));
    store(elements + 2 * i, bfloat16_stochastic(load<float>(floats + 4 * i), random));
  }
}

void add_elements(ElementType type, SimdLevel level, const uint8_t* elements, size_t count,
                  float scale, float* sums) {
  size_t i = 0;
#if defined(__x86_64__)
  if (level >= SimdLevel::kAvx2) i = add_elements_avx2(type, elements, count, scale, sums);
#endif
  for (; i < count; ++i) sums[i] += load_as_float(type, elements, i) * scale;
}

}  // namespace longhaul
