// The small parts around the model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/linkem/host_network.h"
#include "tools/linkem/line_prefixer.h"
#include "tools/linkem/packet_store.h"
#include "tools/linkem/report.h"
#include "tools/linkem/run.h"

namespace longhaul::linkem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(LinePrefixer, WholeLinesGetThePrefixHoweverTheyCome) {
  LinePrefixer lines("[2] ");
  EXPECT_EQ(lines.add("a"), "");
  EXPECT_EQ(lines.add("b\nc\n\nd"), "[2] ab\n[2] c\n[2] \n");
  EXPECT_EQ(lines.flush(), "[2] d\n");
  EXPECT_EQ(lines.flush(), "");
}

TEST(LinePrefixer, ALineWithoutAnEndIsCut) {
  LinePrefixer lines("> ");
  const std::string cut = lines.add(std::string(70'000, 'x'));
  EXPECT_EQ(cut, "> " + std::string(70'000, 'x') + "\n");
  EXPECT_EQ(lines.flush(), "");
}

TEST(Words, HostAndAddressesAreReplacedAndNothingElse) {
  EXPECT_THAT(
      words_for_host({"x{host}", "{hosts}/{host}", "{address}", "{address:0}:{address:2}",
                      "{address:9}", "{}", "{other}"},
                     1, 3),
      ElementsAre("x1", "3/1", "10.98.0.2", "10.98.0.1:10.98.0.3", "{address:9}", "{}", "{other}"));
}

TEST(Addresses, ReadBackToTheirHost) {
  const uint8_t mine[] = {10, 98, 0, 3};
  const uint8_t broadcast[] = {10, 98, 0, 0};
  const uint8_t other[] = {10, 99, 0, 3};
  EXPECT_EQ(host_of_address(mine), 2U);
  EXPECT_GE(host_of_address(broadcast), kMostHosts);
  EXPECT_GE(host_of_address(other), kMostHosts);
}

TEST(PacketStore, SlotsAreDistinctAndUsedAgain) {
  PacketStore store(100);
  std::vector<uint32_t> ids;
  for (uint32_t i = 0; i < 3000; ++i) {
    ids.push_back(store.acquire());
    store.bytes(ids.back())[99] = static_cast<uint8_t>(i);
  }
  for (uint32_t i = 0; i < 3000; ++i) {
    EXPECT_EQ(store.bytes(ids[i])[99], static_cast<uint8_t>(i));
  }
  store.release(ids[5]);
  EXPECT_EQ(store.acquire(), ids[5]);
}

TEST(Report, NamesWhatWentWrongOutsideTheModel) {
  Report report;
  report.router.up.resize(2);
  report.router.down.resize(2);
  report.dropped_at_device = {0, 0};
  EXPECT_THAT(report_as_text(report), Not(HasSubstr("device")));
  report.dropped_at_device = {0, 12};
  report.router.unroutable = 3;
  EXPECT_THAT(report_as_text(report), HasSubstr("12 packets were dropped at a device"));
  EXPECT_THAT(report_as_text(report), HasSubstr("3 packets were to no host"));
}

TEST(Lateness, NinetyNinePercentWereBelow) {
  Lateness lateness;
  for (int i = 0; i < 990; ++i) lateness.add(std::chrono::microseconds(20));
  for (int i = 0; i < 10; ++i) lateness.add(std::chrono::milliseconds(3));
  EXPECT_EQ(lateness.p99_us(), 32);
  EXPECT_EQ(lateness.max_us(), 3000);
  EXPECT_EQ(Lateness().p99_us(), 0);
}

}  // namespace
}  // namespace longhaul::linkem
