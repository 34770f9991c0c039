#include "base/printable.h"

#include <gtest/gtest.h>

#include <string>

namespace longhaul {
namespace {

TEST(PrintableTest, TextStaysAsItIs) {
  for (const char* text : {"", "job 'night' \\ 100%", "Zürich, 東京, 🚀", "a\u00a0b"}) {
    EXPECT_EQ(printable(text), text);
  }
}

TEST(PrintableTest, NothingSteersATerminal) {
  EXPECT_EQ(printable("\x1b[2J\x1b]0;title\a"), "\\x1b[2J\\x1b]0;title\\x07");
  EXPECT_EQ(printable("one\ntwo\r\tthree"), "one\\ntwo\\r\\tthree");
  EXPECT_EQ(printable(std::string("nul\0del\x7f", 8)), "nul\\x00del\\x7f");
  EXPECT_EQ(printable("c1 \u009b2J"), "c1 \\u{9b}2J");
  EXPECT_EQ(printable("\u202egnp.exe"), "\\u{202e}gnp.exe");
  EXPECT_EQ(printable("a\u2028b"), "a\\u{2028}b");
}

TEST(PrintableTest, BytesThatAreNoTextAreShownAsBytes) {
  EXPECT_EQ(printable("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf") << "longer than need be";
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "half of a surrogate pair";
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80") << "beyond the last character";
  EXPECT_EQ(printable("x\xe2\x82y"), "x\\xe2\\x82y") << "cut off";
}

TEST(PrintableTest, WhateverTheBytesTheResultIsOneLineOfText) {
  uint32_t seed = 7;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(round % 40, '\0');
    for (char& byte : bytes) {
      seed = seed * 1664525 + 1013904223;
      byte = static_cast<char>(seed >> 24);
    }
    const std::string shown = printable(bytes);
    EXPECT_TRUE(is_utf8(shown));
    EXPECT_EQ(shown.find_first_of("\x1b\n\r\t\x7f"), std::string::npos);
    EXPECT_EQ(printable(shown), shown) << "again changes nothing";
  }
}

TEST(PrintableTest, ALineOfAProgramKeepsItsTabs) {
  EXPECT_EQ(printable_line("\tat main()\x1b"), "\tat main()\\x1b");
}

TEST(PrintableTest, WidthIsCountedInCharacters) {
  EXPECT_EQ(display_width("Zürich"), 6U);
  EXPECT_EQ(shorten("Zürich am See", 8), "Zürich..");
  EXPECT_EQ(shorten("Zürich", 6), "Zürich");
  EXPECT_EQ(shorten("東京東京", 3), "東..");
  EXPECT_EQ(shorten("abc", 2), "ab");
}

}  // namespace
}  // namespace longhaul
