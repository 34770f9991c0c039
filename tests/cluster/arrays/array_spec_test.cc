#include "cluster/arrays/array_spec.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/check.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

std::vector<uint64_t> indices(const ArraySpec& spec) {
  std::vector<uint64_t> all;
  all.reserve(spec.size());
  for (TaskIndex task = 0; task < spec.size(); ++task) all.push_back(spec.index(task));
  return all;
}

std::string refusal(const std::string& text) {
  const Result<ArraySpec> spec = ArraySpec::parse(text);
  if (spec) return "taken";
  EXPECT_EQ(spec.failure().kind, ErrorKind::kInvalid);
  return spec.failure().message;
}

TEST(ArraySpec, IndicesComeAsWritten) {
  const Result<ArraySpec> spec = ArraySpec::parse("20,0-3,30-40:4,5");
  ASSERT_TRUE(spec);
  EXPECT_EQ(indices(*spec), (std::vector<uint64_t>{20, 0, 1, 2, 3, 30, 34, 38, 5}));
  EXPECT_EQ(spec->max_at_once(), std::nullopt);
  EXPECT_EQ(spec->task(34), 6u);
  EXPECT_EQ(spec->task(35), std::nullopt);
  EXPECT_EQ(spec->task(40), std::nullopt);
  EXPECT_THROW(spec->index(9), BugError);
}

TEST(ArraySpec, TheLimitStandsAtTheEnd) {
  const Result<ArraySpec> spec = ArraySpec::parse("0-999%50");
  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->size(), 1000u);
  EXPECT_EQ(spec->max_at_once(), 50u);
  EXPECT_EQ(ArraySpec::parse("0-9%999999999999")->max_at_once(), kMaxTasks);
}

TEST(ArraySpec, TextIsTheShortestFormAndParsesToTheSame) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"0-999%50", "0-999%50"},
      {"5-5", "5"},
      {"0-9:1", "0-9"},
      {"30-41:2", "30-40:2"},
      {"3-4:2", "3"},
      {"007,1", "7,1"},
      {"7,20,30-40:2%1", "7,20,30-40:2%1"},
      {"0", "0"},
  };
  for (const auto& [text, shortest] : cases) {
    const Result<ArraySpec> spec = ArraySpec::parse(text);
    ASSERT_TRUE(spec) << text;
    EXPECT_EQ(spec->text(), shortest);
    EXPECT_EQ(*ArraySpec::parse(spec->text()), *spec);
  }
}

TEST(ArraySpec, RefusalsNameThePartAndTheRange) {
  EXPECT_EQ(refusal("0-9,x"),
            "array: 'x': 'x' is no index; write N, A-B or A-B:STEP, with commas between, and "
            "%LIMIT at the end");
  EXPECT_EQ(refusal("30-20"), "array: '30-20': ends before it begins; write 20-30");
  EXPECT_EQ(refusal("0-9:0"), "array: '0-9:0': the step 0 is not from 1 to 999999999999999");
  EXPECT_EQ(refusal("0-9%0"), "array: '0-9%0': the limit 0 is not from 1 to 999999999999999");
  EXPECT_EQ(refusal("1000000000000000"),
            "array: '1000000000000000': the index 1000000000000000 is not from 0 to "
            "999999999999999");
  EXPECT_EQ(refusal("99999999999999999999"),
            "array: '99999999999999999999': the index 99999999999999999999 is not from 0 to "
            "999999999999999");
  EXPECT_EQ(refusal("5:2"), "array: '5:2': a step needs a range: A-B:STEP");
  EXPECT_EQ(refusal(""), "array: part 1 is empty");
  EXPECT_EQ(refusal("1,,2"), "array: part 2 is empty");
  EXPECT_EQ(refusal("1,2,"), "array: part 3 is empty");
  EXPECT_EQ(refusal("%5"), "array: part 1 is empty");
  EXPECT_EQ(refusal("0-9999999,10000000"), "array: '10000000': more than 10000000 tasks in all");
  EXPECT_EQ(refusal("0-999999999999999"),
            "array: '0-999999999999999': more than 10000000 tasks in all");
  for (const char* text : {"-5", "1-", "-", "1-2-3", "0-9:", "0-9%", "0-9%5%6", "%", " 1", "1, 2",
                           "1.5", "0x10", "+3", "1-9:-2", "5%2,7"}) {
    EXPECT_NE(refusal(text).find("is no "), std::string::npos) << text << ": " << refusal(text);
  }
}

TEST(ArraySpec, AnIndexOccursOnce) {
  EXPECT_EQ(refusal("5,1,5"), "array: '5': index 5 occurs in '5' too");
  EXPECT_EQ(refusal("0-9,4"), "array: '4': index 4 occurs in '0-9' too");
  EXPECT_EQ(refusal("0-100:3,5-100:5"), "array: '5-100:5': index 15 occurs in '0-99:3' too");
  EXPECT_EQ(refusal("0-100:2,1-101:2"), "taken");
  EXPECT_EQ(refusal("0-14:3,5-14:5"), "taken");
  EXPECT_EQ(refusal("0-999999999999999:999999999,7-999999999999999:999999998").find("taken"),
            std::string::npos);
}

TEST(ArraySpec, SizesThatAreTaken) {
  EXPECT_EQ(ArraySpec::parse("0-9999999")->size(), kMaxTasks);
  EXPECT_EQ(ArraySpec::parse("0-999999999999999:999999999999999")->size(), 2u);
  std::string singles = "0";
  for (size_t i = 1; i < ArraySpec::kMaxParts; ++i) singles += str_cat(",", 2 * i);
  EXPECT_EQ(ArraySpec::parse(singles)->size(), ArraySpec::kMaxParts);
  EXPECT_NE(refusal(singles + ",1").find("more than 100000 parts"), std::string::npos);
  std::string stepped = "0-10000:10000";
  for (size_t i = 1; i < ArraySpec::kMaxStepped; ++i) {
    stepped += str_cat(",", i, "-", i + 10000, ":10000");
  }
  EXPECT_EQ(ArraySpec::parse(stepped)->size(), 2 * ArraySpec::kMaxStepped);
  EXPECT_NE(refusal(stepped + ",5000-15000:10000").find("more than 1000 ranges with a step"),
            std::string::npos);
}

// Against a list of all indices.
TEST(ArraySpec, RandomTextsMeanWhatAListMeans) {
  std::mt19937 random(1);
  const auto pick = [&](uint32_t below) { return random() % below; };
  int taken = 0;
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::vector<std::string> parts;
    std::vector<uint64_t> expected;
    for (uint32_t part = 0, parts_wanted = 1 + pick(4); part < parts_wanted; ++part) {
      const uint64_t first = pick(60);
      const uint64_t last = first + (pick(3) == 0 ? 0 : pick(40));
      const uint64_t step = 1 + pick(12);
      parts.push_back(str_cat(first, "-", last, ":", step));
      for (uint64_t index = first; index <= last; index += step) expected.push_back(index);
    }
    const std::string text = join(parts, ",");
    const std::set<uint64_t> distinct(expected.begin(), expected.end());
    const Result<ArraySpec> spec = ArraySpec::parse(text);
    ASSERT_EQ(spec.ok(), distinct.size() == expected.size()) << text;
    ++(spec ? taken : refused);
    if (!spec) continue;
    ASSERT_EQ(indices(*spec), expected) << text;
    ASSERT_EQ(*ArraySpec::parse(spec->text()), *spec) << text;
    for (TaskIndex task = 0; task < spec->size(); ++task) {
      ASSERT_EQ(spec->task(expected[task]), task) << text;
    }
  }
  EXPECT_GT(taken, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace longhaul
