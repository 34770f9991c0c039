#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <locale>
#include <nlohmann/json.hpp>
#include <set>

#include "base/check.h"
#include "base/queue.h"
#include "base/random_id.h"
#include "base/thread.h"
#include "base/unique_fd.h"
#include "longhaul/base/json.h"
#include "longhaul/base/result.h"
#include "longhaul/base/strings.h"
#include "longhaul/base/version.h"

namespace longhaul {
namespace {

using testing::HasSubstr;

TEST(ResultTest, HoldsAValueOrAFailure) {
  Result<int> good = 3;
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, 3);

  Result<int> bad = Failure{ErrorKind::kDeadline, "no answer in 3 s"};
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.failure().kind, ErrorKind::kDeadline);
}

TEST(ResultTest, BecomesAnExceptionAtThePublicSurface) {
  Result<int> bad = Failure{ErrorKind::kPeerLost, "rank 2 is gone"};
  try {
    std::move(bad).value_or_throw();
    FAIL() << "no exception";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kPeerLost);
    EXPECT_STREQ(error.what(), "rank 2 is gone");
  }
  EXPECT_NO_THROW(Result<void>().value_or_throw());
}

TEST(CheckTest, PrintsBothValues) {
  const int have = 3;
  EXPECT_NO_THROW(LONGHAUL_CHECK(have == 3));
  try {
    LONGHAUL_CHECK(have == 4);
    FAIL() << "no exception";
  } catch (const BugError& error) {
    EXPECT_THAT(error.what(), HasSubstr("have == 4 (3 == 4)"));
    EXPECT_EQ(error.kind(), ErrorKind::kInternal);
  }
}

class EveryDigitApart : public std::numpunct<char> {
 protected:
  char do_thousands_sep() const override { return ','; }
  char do_decimal_point() const override { return ','; }
  std::string do_grouping() const override { return "\1"; }
};

// As a program around the library may set it.
TEST(RandomId, IsOneOfAKind) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(random_id());
  EXPECT_EQ(ids.size(), 1000U);
  EXPECT_EQ(ids.begin()->size(), 32U);
  EXPECT_EQ(ids.begin()->find_first_not_of("0123456789abcdef"), std::string::npos);
  EXPECT_NE(random_number(), random_number());
}

TEST(StringsTest, NoNumberDependsOnTheLocale) {
  const std::locale before =
      std::locale::global(std::locale(std::locale::classic(), new EveryDigitApart));
  EXPECT_EQ(str_cat("127.0.0.1:", 41253, " ", 1234.5), "127.0.0.1:41253 1234.5");
  EXPECT_EQ(format_bytes(123'400'000), "123 MB");
  EXPECT_EQ(format_bytes(1'234'000), "1.23 MB");
  EXPECT_EQ(format_seconds(12.34), "12.3s");
  EXPECT_EQ(format_seconds(3723), "1h02m");
  EXPECT_EQ(JsonObject().set("a", 12345).set("b", 0.25).str(), R"({"a":12345,"b":0.25})");
  std::locale::global(before);
}

TEST(StringsTest, NumbersAsPrintfWritesThem) {
  EXPECT_EQ(format_fixed(3.14159, 2), "3.14");
  EXPECT_EQ(format_fixed(-0.5, 0), "-0");
  EXPECT_EQ(format_fixed(1e300, 0).size(), 301U);
  EXPECT_EQ(format_general(1234567, 4), "1.235e+06");
  EXPECT_EQ(format_general(0.00012345, 3), "0.000123");
  EXPECT_EQ(format_general(std::numeric_limits<double>::infinity(), 4), "inf");
}

TEST(StringsTest, SplitAndJoinAreInverse) {
  EXPECT_EQ(split("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(join({"a", "", "b"}, ","), "a,,b");
  EXPECT_EQ(split("", ','), std::vector<std::string>{""});
  EXPECT_EQ(join({}, ","), "");
}

TEST(StringsTest, NumbersForPeople) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1500), "1.50 kB");
  EXPECT_EQ(format_bytes(999'999), "1.00 MB");
  EXPECT_EQ(format_bytes(123'400'000), "123 MB");
  EXPECT_EQ(format_seconds(12.34), "12.3s");
  EXPECT_EQ(format_seconds(185), "3m05s");
  EXPECT_EQ(format_seconds(3720), "1h02m");
}

TEST(StringsTest, ClosestMatchKnowsTyposFromOtherWords) {
  const std::vector<std::string> names = {"none", "zstd", "--ranks"};
  EXPECT_EQ(closest_match("zsdt", names), "zstd");
  EXPECT_EQ(closest_match("--rank", names), "--ranks");
  EXPECT_EQ(closest_match("gzip", names), "");
}

TEST(JsonTest, KeepsOrderAndEscapes) {
  const std::string text = JsonObject()
                               .set("name", "a\"b\n\xff")
                               .set("value", 1.18)
                               .set("count", uint64_t{18446744073709551615U})
                               .set("nothing", std::numeric_limits<double>::quiet_NaN())
                               .set("yes", true)
                               .set("list", std::vector<std::string>{"x", "y"})
                               .set_raw("inner", JsonObject().str())
                               .str();
  const auto json = nlohmann::ordered_json::parse(text);
  EXPECT_EQ(json.begin().key(), "name");
  EXPECT_EQ(json["name"], "a\"b\n\xEF\xBF\xBD");
  EXPECT_EQ(json["value"], 1.18);
  EXPECT_EQ(json["count"], 18446744073709551615U);
  EXPECT_TRUE(json["nothing"].is_null());
  EXPECT_EQ(json["list"].size(), 2);
  EXPECT_TRUE(json["inner"].empty());
}

TEST(QueueTest, ReadersDrainWhatIsLeftAfterClose) {
  Queue<int> queue;
  EXPECT_TRUE(queue.push(1));
  queue.close();
  EXPECT_FALSE(queue.push(2));
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(QueueTest, CloseWakesAWaitingReader) {
  Queue<int> queue;
  std::atomic<bool> woke = false;
  Thread reader("reader", [&] { woke = !queue.pop().has_value(); });
  queue.close();
  reader.join();
  EXPECT_TRUE(woke);
}

TEST(QueueTest, PopUntilGivesUpAtItsDeadline) {
  Queue<int> queue;
  EXPECT_EQ(queue.pop_until(std::chrono::steady_clock::now()), std::nullopt);
}

TEST(UniqueFdTest, ClosesWhatItHolds) {
  int pipe_fds[2];
  ASSERT_EQ(pipe(pipe_fds), 0);
  UniqueFd reader(pipe_fds[0]);
  {
    UniqueFd writer(pipe_fds[1]);
    UniqueFd moved = std::move(writer);
    EXPECT_TRUE(moved.valid());
  }
  char byte = 0;
  EXPECT_EQ(read(reader.get(), &byte, 1), 0);  // end of file: the writer is closed
}

TEST(VersionTest, IsThreeNumbers) {
  EXPECT_EQ(split(version(), '.').size(), 3);
}

}  // namespace
}  // namespace longhaul
