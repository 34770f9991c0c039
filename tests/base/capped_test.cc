#include "base/capped.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using ::testing::EndsWith;
using ::testing::StartsWith;

TEST(Capped, WhatIsShortEnoughStaysAsItIs) {
  EXPECT_EQ(capped("", 64), "");
  const std::string odd("\0\xff\x80", 3);
  EXPECT_EQ(capped(odd, 64), odd);
  EXPECT_EQ(capped(std::string(64, 'x'), 64), std::string(64, 'x'));
}

TEST(Capped, WhatIsLongerSaysHowMuchIsLeftOut) {
  const std::string text = capped(std::string(1'000'000, 'x'), 100);
  EXPECT_LE(text.size(), 100U);
  EXPECT_THAT(text, StartsWith(std::string(50, 'x')));
  EXPECT_THAT(text, EndsWith("x [... 999948 bytes left out]"));
}

TEST(Capped, NoCharacterIsCutInTwo) {
  for (const std::string letter : {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"}) {
    for (size_t shift = 0; shift < 4; ++shift) {
      std::string text(shift, 'x');
      while (text.size() < 500) text += letter;
      const std::string cut = capped(text, 100);
      EXPECT_LE(cut.size(), 100U);
      const std::string kept = cut.substr(0, cut.find(' '));
      EXPECT_EQ((kept.size() - shift) % letter.size(), 0U);
      EXPECT_THAT(text, StartsWith(kept));
    }
  }
}

TEST(Capped, BytesThatAreNoTextAreCutAnywhere) {
  EXPECT_LE(capped(std::string(500, '\x80'), 100).size(), 100U);
}

TEST(Capped, TheLastLinesAreKept) {
  const std::vector<std::string> lines = capped({"first", "second", std::string(500, 'x')}, 2, 100);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0], "second");
  EXPECT_LE(lines[1].size(), 100U);
}

}  // namespace
}  // namespace longhaul
