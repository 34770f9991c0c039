// What `longhaul ... -o json` prints, read.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/e2e/cluster.h"

namespace longhaul::testing {

inline nlohmann::json json_of(Cluster& cluster, const std::vector<std::string>& arguments) {
  EXPECT_EQ(cluster.longhaul_to_end(arguments), 0) << cluster.last().err();
  nlohmann::json document = nlohmann::json::parse(cluster.last().out());
  EXPECT_EQ(document["schema"], 1);
  return document;
}

}  // namespace longhaul::testing
