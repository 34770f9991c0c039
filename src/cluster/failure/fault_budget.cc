#include "cluster/failure/fault_budget.h"

namespace longhaul {

std::string_view to_string(FaultKind kind) {
  switch (kind) {
    case FaultKind::kApplication:
      return "application";
    case FaultKind::kOutOfMemory:
      return "out of memory";
    case FaultKind::kNode:
      return "node";
    case FaultKind::kPreemption:
      return "preemption";
  }
  return "unknown";
}

uint16_t FaultBudgets::of(FaultKind kind) const {
  switch (kind) {
    case FaultKind::kApplication:
      return application;
    case FaultKind::kOutOfMemory:
      return out_of_memory;
    case FaultKind::kNode:
      return node;
    case FaultKind::kPreemption:
      return preemption;
  }
  return 0;
}

bool FaultBudgets::spent(const FaultCounts& counts, FaultKind kind) const {
  const uint16_t count = counts[static_cast<size_t>(kind)];
  return count > 0 && of(kind) != kUnlimited && count >= of(kind);
}

void count_fault(FaultCounts& counts, FaultKind kind) {
  uint16_t& count = counts[static_cast<size_t>(kind)];
  if (count < std::numeric_limits<uint16_t>::max()) ++count;
}

}  // namespace longhaul
