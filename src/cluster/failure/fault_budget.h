// How often an attempt may fail, by whose fault it was. The kinds have budgets of their own: a
// program that crashes gives up after a few tries, and a night of broken hosts does not use those
// up. An attempt that failed counts against exactly one budget.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string_view>

namespace longhaul {

// The numbers are on disk.
enum class FaultKind : uint8_t {
  kApplication = 0,  // the program: a nonzero exit, a signal, a result over its cap
  kOutOfMemory = 1,  // killed for memory: more tries on the same kind of host hardly help
  kNode = 2,         // the host or its worker: lost, restarted, unable to start programs
  kPreemption = 3,   // taken away for somebody else: nobody's fault
};
constexpr size_t kFaultKinds = 4;
std::string_view to_string(FaultKind kind);

// Failures so far, by FaultKind. They stop at the largest number that fits.
using FaultCounts = std::array<uint16_t, kFaultKinds>;

// The Nth failure of a kind is the last one. 0 is as 1.
struct FaultBudgets {
  static constexpr uint16_t kUnlimited = std::numeric_limits<uint16_t>::max();

  uint16_t application = 3;
  uint16_t out_of_memory = 2;
  uint16_t node = 10;
  uint16_t preemption = kUnlimited;

  uint16_t of(FaultKind kind) const;
  bool spent(const FaultCounts& counts, FaultKind kind) const;
};

// One more.
void count_fault(FaultCounts& counts, FaultKind kind);

}  // namespace longhaul
