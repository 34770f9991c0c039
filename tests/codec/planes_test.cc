#include "codec/planes.h"

#include <gtest/gtest.h>

#include "longhaul/base/strings.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;

using Planes = std::vector<std::vector<uint8_t>>;

Planes split(ElementType type, SimdLevel level, const std::vector<uint8_t>& elements) {
  const size_t count = elements.size() / element_bytes(type);
  Planes planes(element_bytes(type), std::vector<uint8_t>(count + kGuardBytes, 0xA5));
  PlanePointers pointers{};
  for (size_t p = 0; p < planes.size(); ++p) pointers[p] = planes[p].data();
  split_planes(type, level, elements.data(), count, pointers);
  return planes;
}

std::vector<uint8_t> merge(ElementType type, SimdLevel level, const Planes& planes, size_t count) {
  std::vector<uint8_t> elements(count * element_bytes(type) + kGuardBytes, 0xA5);
  ConstPlanePointers pointers{};
  for (size_t p = 0; p < planes.size(); ++p) pointers[p] = planes[p].data();
  merge_planes(type, level, pointers, count, elements.data());
  return elements;
}

bool guard_is_whole(const std::vector<uint8_t>& bytes) {
  return std::all_of(bytes.end() - kGuardBytes, bytes.end(), [](uint8_t b) { return b == 0xA5; });
}

// The exponent of a float is its bits after the sign; the top plane must be exactly that.
TEST(PlanesTest, TheTopPlaneOfFp32AndBf16IsTheExponent) {
  for (const ElementType type : {ElementType::kFloat32, ElementType::kBFloat16}) {
    std::vector<uint8_t> elements(element_bytes(type) * 2);
    const uint64_t values[] = {bits_of(type, -1.75), bits_of(type, 8.0)};
    for (int i = 0; i < 2; ++i) {
      std::memcpy(elements.data() + i * element_bytes(type), &values[i], element_bytes(type));
    }
    const Planes planes = split(type, SimdLevel::kScalar, elements);
    EXPECT_EQ(planes.back()[0], 127);
    EXPECT_EQ(planes.back()[1], 127 + 3);
    EXPECT_EQ(planes[0][0] & 1, 1) << "the sign went to the lowest bit";
    EXPECT_EQ(planes[0][1] & 1, 0);
  }
}

TEST(PlanesTest, EveryInstructionSetGivesTheSamePlanesForEveryLength) {
  for (const ElementType type : kAllElementTypes) {
    for (size_t count = 0; count < 300; ++count) {
      const std::vector<uint8_t> elements =
          make_elements(DataKind::kRandomBits, type, count, count);
      const Planes expected = split(type, SimdLevel::kScalar, elements);
      for (const SimdLevel level : {SimdLevel::kScalar, SimdLevel::kAvx2, SimdLevel::kAvx512}) {
        if (level > best_simd_level()) continue;
        SCOPED_TRACE(str_cat(to_string(type), ", ", count, ", level ", static_cast<int>(level)));
        const Planes planes = split(type, level, elements);
        ASSERT_EQ(planes, expected);
        for (const std::vector<uint8_t>& plane : planes) ASSERT_TRUE(guard_is_whole(plane));
        std::vector<uint8_t> merged = merge(type, level, planes, count);
        ASSERT_TRUE(guard_is_whole(merged));
        merged.resize(elements.size());
        ASSERT_EQ(merged, elements);
      }
    }
  }
}

}  // namespace
}  // namespace longhaul
