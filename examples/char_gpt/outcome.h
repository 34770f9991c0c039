// What each rank found at the end, told to all ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "examples/char_gpt/report.h"
#include "longhaul/runtime/world.h"

namespace char_gpt {

struct Outcome {
  uint64_t parameter_hash = 0;
  double loss_sum = 0;     // over this rank's share of the held-out bytes
  int64_t loss_bytes = 0;  // how many those are
  uint64_t bytes_raw = 0;
  uint64_t bytes_sent = 0;
};

// Collective. By rank.
std::vector<Outcome> gather_outcomes(const longhaul::World& world, const Outcome& mine);

// Sums up the outcomes of all ranks.
void add_outcomes(const std::vector<Outcome>& outcomes, Report* report);

// "" when all ranks ended with the same parameters; else which ranks did not.
std::string disagreement(const Report& report);

}  // namespace char_gpt
