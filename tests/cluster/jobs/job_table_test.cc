#include "cluster/jobs/job_table.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace longhaul {
namespace {

TEST(JobTable, OneRowForEachPairAndNothingLeavesAnEnd) {
  std::set<std::pair<JobState, JobEvent>> seen;
  for (const JobTransition& row : job_table()) {
    EXPECT_TRUE(seen.emplace(row.from, row.event).second);
    EXPECT_FALSE(has_ended(row.from));
    EXPECT_EQ(row.to == JobState::kPending, row.event == JobEvent::kRestart);
  }
}

TEST(JobTable, EveryStateThatHasNotEndedCanBeStopped) {
  for (const JobState state :
       {JobState::kPending, JobState::kStarting, JobState::kRunning, JobState::kStopping}) {
    EXPECT_TRUE(job_step(state, JobEvent::kStopRequested)) << to_string(state);
  }
}

TEST(JobTable, AnEndedJobHearsNothing) {
  for (const JobState state : {JobState::kSucceeded, JobState::kFailed, JobState::kStopped}) {
    for (int event = 0; event <= static_cast<int>(JobEvent::kRestart); ++event) {
      EXPECT_FALSE(job_step(state, static_cast<JobEvent>(event)));
    }
  }
}

}  // namespace
}  // namespace longhaul
