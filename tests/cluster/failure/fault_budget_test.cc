#include "cluster/failure/fault_budget.h"

#include <gtest/gtest.h>

namespace longhaul {
namespace {

TEST(FaultBudgets, TheNthFailureOfAKindSpendsItsBudgetAndNoOther) {
  const FaultBudgets budgets{3, 2, 10, FaultBudgets::kUnlimited};
  FaultCounts counts{};
  for (int i = 1; i <= 3; ++i) {
    count_fault(counts, FaultKind::kApplication);
    EXPECT_EQ(budgets.spent(counts, FaultKind::kApplication), i == 3) << i;
  }
  EXPECT_FALSE(budgets.spent(counts, FaultKind::kOutOfMemory));
  EXPECT_FALSE(budgets.spent(counts, FaultKind::kNode));
  EXPECT_EQ(counts, (FaultCounts{3, 0, 0, 0}));
}

TEST(FaultBudgets, NothingIsSpentBeforeTheFirstFailure) {
  const FaultBudgets budgets{0, 0, 0, 0};
  FaultCounts counts{};
  EXPECT_FALSE(budgets.spent(counts, FaultKind::kNode));
  count_fault(counts, FaultKind::kNode);
  EXPECT_TRUE(budgets.spent(counts, FaultKind::kNode));
}

TEST(FaultBudgets, AnUnlimitedBudgetOutlastsTheCounter) {
  const FaultBudgets budgets;
  FaultCounts counts{};
  for (int i = 0; i < 70'000; ++i) count_fault(counts, FaultKind::kPreemption);
  EXPECT_FALSE(budgets.spent(counts, FaultKind::kPreemption));
  EXPECT_EQ(counts[static_cast<size_t>(FaultKind::kPreemption)], FaultBudgets::kUnlimited);
}

TEST(FaultBudgets, EachKindHasItsOwn) {
  const FaultBudgets budgets{1, 2, 3, 4};
  EXPECT_EQ(budgets.of(FaultKind::kApplication), 1);
  EXPECT_EQ(budgets.of(FaultKind::kOutOfMemory), 2);
  EXPECT_EQ(budgets.of(FaultKind::kNode), 3);
  EXPECT_EQ(budgets.of(FaultKind::kPreemption), 4);
}

}  // namespace
}  // namespace longhaul
