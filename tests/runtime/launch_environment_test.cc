#include "runtime/launch_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

Result<std::optional<LaunchEnvironment>> read(const Variables& variables) {
  return read_launch_environment([&](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  });
}

Variables good() {
  return {{"RANK", "3"},
          {"WORLD_SIZE", "8"},
          {"LOCAL_RANK", "1"},
          {"LOCAL_WORLD_SIZE", "2"},
          {"MASTER_ADDR", "node-0"},
          {"MASTER_PORT", "29500"}};
}

std::string refusal(const Variables& variables) {
  const auto environment = read(variables);
  if (environment) return "accepted";
  EXPECT_EQ(environment.failure().kind, ErrorKind::kInvalid);
  return environment.failure().message;
}

TEST(LaunchEnvironment, NothingSetMeansAlone) {
  EXPECT_FALSE(read({}).value().has_value());
  EXPECT_FALSE(read({{"MASTER_ADDR", "left over"}}).value().has_value());
}

TEST(LaunchEnvironment, ReadsTorchrunsNames) {
  const LaunchEnvironment environment = *read(good()).value();
  EXPECT_EQ(environment.placement.rank, 3);
  EXPECT_EQ(environment.placement.world_size, 8);
  EXPECT_EQ(environment.placement.local_rank, 1);
  EXPECT_EQ(environment.placement.local_world_size, 2);
  EXPECT_EQ(environment.placement.generation, 0u);
  EXPECT_EQ(environment.master_address, "node-0");
  EXPECT_EQ(environment.master_port, 29500);
  EXPECT_FALSE(environment.serves_store);
}

TEST(LaunchEnvironment, RankZeroServesTheStoreUnlessTorchrunDoes) {
  Variables variables = good();
  variables["RANK"] = "0";
  EXPECT_TRUE(read(variables).value()->serves_store);
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  variables["TORCHELASTIC_RESTART_COUNT"] = "2";
  EXPECT_FALSE(read(variables).value()->serves_store);
  EXPECT_EQ(read(variables).value()->placement.generation, 2u);
}

TEST(LaunchEnvironment, AWorldOfOneNeedsNoMaster) {
  const LaunchEnvironment environment = *read({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).value();
  EXPECT_EQ(environment.placement.world_size, 1);
  EXPECT_EQ(environment.placement.local_world_size, 1);
}

TEST(LaunchEnvironment, SaysWhatIsWrong) {
  const auto with = [](const char* name, const char* value) {
    Variables variables = good();
    variables[name] = value;
    return refusal(variables);
  };
  const auto without = [](const char* name) {
    Variables variables = good();
    variables.erase(name);
    return refusal(variables);
  };
  EXPECT_EQ(without("WORLD_SIZE"), "RANK is set but WORLD_SIZE is not: torchrun sets both");
  EXPECT_EQ(without("RANK"), "WORLD_SIZE is set but RANK is not: torchrun sets both");
  EXPECT_EQ(without("MASTER_PORT"), "MASTER_PORT is not set");
  EXPECT_THAT(without("MASTER_ADDR"), HasSubstr("MASTER_ADDR, the host of rank 0, is not set"));
  EXPECT_EQ(with("RANK", "8"), "RANK=8 is not between 0 and 7 (WORLD_SIZE=8)");
  EXPECT_EQ(with("RANK", "-1"), "RANK=-1 is not between 0 and 7 (WORLD_SIZE=8)");
  EXPECT_THAT(with("RANK", "two"), HasSubstr("RANK='two' is not a whole number"));
  EXPECT_THAT(with("WORLD_SIZE", "8x"), HasSubstr("WORLD_SIZE='8x' is not a whole number"));
  EXPECT_THAT(with("WORLD_SIZE", "0"), HasSubstr("WORLD_SIZE=0 is not between 1"));
  EXPECT_THAT(with("WORLD_SIZE", ""), HasSubstr("WORLD_SIZE=''"));
  EXPECT_THAT(with("MASTER_PORT", "99999"), HasSubstr("MASTER_PORT=99999"));
  EXPECT_THAT(with("LOCAL_RANK", "9"), HasSubstr("LOCAL_RANK=9"));
}

}  // namespace
}  // namespace longhaul
