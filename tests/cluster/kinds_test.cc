// A third kind of work, thrown away after the test: a service that keeps so many replicas running,
// each by itself, on whatever slots there are. All of it is in this file; nothing else knows it.
#include "cluster/kinds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>

#include "tests/cluster/state_driver.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

class Service final : public Work {
 public:
  using Work::Work;

  std::string size() const override { return str_cat(spec().ranks, " replicas"); }
  std::optional<WaitingJob> waiting(Now now) const override {
    const size_t missing = static_cast<size_t>(spec().ranks) - replicas_.size();
    if (missing == 0 || (state() != JobState::kPending && state() != JobState::kRunning)) {
      return std::nullopt;
    }
    WaitingJob waiting = waiting_job(now);
    waiting.tasks = WaitingTasks{missing, false};
    return waiting;
  }
  RunningJob running(Now) const override {
    RunningJob running{id(), {}, std::nullopt, true};
    for (const auto& [number, worker] : replicas_) running.taken.push_back({worker, each()});
    return running;
  }
  int slots_held() const override { return static_cast<int>(replicas_.size()); }
  std::set<WorkerId> holders() const override {
    std::set<WorkerId> holders;
    for (const auto& [number, worker] : replicas_) holders.insert(worker);
    return holders;
  }
  bool takes_single_slots() const override { return true; }
  void granted(const JobStart& start, Now now) override {
    for (const auto& [worker, slots] : start.slots) {
      for (int slot = 0; slot < slots; ++slot) begin_on(worker, now);
    }
  }
  bool runs(const WorkerId& worker) const override { return holders().contains(worker); }
  bool may_have_run(const WorkerId& worker) const override { return runs(worker); }
  bool holds(const WorkerId& worker) const override { return runs(worker); }
  Heard heard(SessionId, const WorkerRecord& worker, const FromWorker& message, Now now) override {
    const auto* event = std::get_if<RankEventMessage>(&message);
    if (event == nullptr) return Heard::kNotMine;
    const auto replica = replicas_.find(event->rank);
    const bool gone = std::holds_alternative<RankExit>(event->change);
    if (replica == replicas_.end() || replica->second != worker.id || !gone) return Heard::kTaken;
    forget(replica);
    review(now);
    return Heard::kRoomFreed;
  }
  void worker_lost(const WorkerId& worker, const std::string&, bool, Now now) override {
    for (auto replica = replicas_.begin(); replica != replicas_.end();) {
      replica = replica->second == worker ? forget(replica) : std::next(replica);
    }
    review(now);
  }
  void worker_back(const WorkerRecord&, Now) override {}
  void review(Now now) override {
    changed();
    if (state() == JobState::kStopping) review_stopping(now);
  }

 protected:
  void restore(ClusterMemory&, Now) override {}
  void act(JobAction, Now) override {}
  void tell_to_stop(Now) override { send_stops(); }
  void send_stops() override {
    for (const WorkerId& worker : holders()) send_stop(worker);
  }
  void account_for_silent(Now) override { let_go(); }
  bool all_accounted() const override { return replicas_.empty(); }
  void let_go() override {
    while (!replicas_.empty()) forget(replicas_.begin());
  }
  std::string success() const override { return "it never ends by itself"; }
  void report() override { job_.status.failure = make_report(*job_.verdict, {}, {}); }
  void tick(Now) override {}
  std::optional<Instant> wakeup() const override { return std::nullopt; }

 private:
  using Replicas = std::map<Rank, WorkerId>;

  Resources each() const { return spec().demand().each; }
  void begin_on(const WorkerId& worker, Now now) {
    if (replicas_.size() == static_cast<size_t>(spec().ranks)) return;
    if (state() == JobState::kPending) advance(JobEvent::kTasksGranted, now);
    const Rank number = ++last_;
    replicas_[number] = worker;
    site_.use[worker].take(each(), {});
    LaunchMessage launched;
    launched.launch = launch();
    launched.spec = spec();
    launched.ranks = {number};
    site_.send(worker, std::move(launched));
    changed();
  }
  Replicas::iterator forget(Replicas::iterator replica) {
    site_.use[replica->second].give_back(each(), {});
    return replicas_.erase(replica);
  }

  Replicas replicas_;  // by their numbers, which only grow
  Rank last_ = -1;
};

WorkKinds with_services() {
  WorkKinds kinds = standard_kinds();
  kinds.insert(kinds.begin(), {[](const JobSpec& spec) { return spec.env.contains("SERVICE"); },
                               [](const JobSpec&) { return std::optional<Failure>(); },
                               [](Site& site, JobRecord record) -> std::unique_ptr<Work> {
                                 return std::make_unique<Service>(site, std::move(record));
                               }});
  return kinds;
}

class ServiceTest : public ::testing::Test {
 protected:
  JobId submit(int replicas) {
    JobSpec spec;
    spec.command = {"./serve"};
    spec.env["SERVICE"] = "1";
    spec.ranks = replicas;
    return on_.submit(spec).value_or_throw();
  }
  // The replicas that this worker was told to start since this was last asked.
  std::vector<Rank> started(SessionId session) {
    std::vector<Rank> replicas;
    for (const LaunchMessage& launch : on_.take<LaunchMessage>(session)) {
      replicas.insert(replicas.end(), launch.ranks.begin(), launch.ranks.end());
    }
    return replicas;
  }
  testing::StateDriver on_{ClusterOptions(), with_services()};
  SessionId a_ = on_.connect("gpu-a", 2);
  SessionId b_ = on_.connect("gpu-b", 2);
};

TEST_F(ServiceTest, ItsReplicasRunWhereThereIsRoomAndComeAgain) {
  const JobId job = submit(3);
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
  std::vector<Rank> all = started(a_);
  const std::vector<Rank> on_b = started(b_);
  all.insert(all.end(), on_b.begin(), on_b.end());
  EXPECT_THAT(all, UnorderedElementsAre(0, 1, 2));
  on_.exits(b_, job, on_b.front(), 1);
  on_.pass(1000, {a_, b_});
  std::vector<Rank> again = started(a_);
  const std::vector<Rank> on_b_again = started(b_);
  again.insert(again.end(), on_b_again.begin(), on_b_again.end());
  EXPECT_THAT(again, ElementsAre(3));
}

TEST_F(ServiceTest, ALostWorkersReplicasGoToAnother) {
  const JobId job = submit(2);
  on_.pass(100, {a_, b_});
  const std::vector<Rank> on_a = started(a_);
  const std::vector<Rank> on_b = started(b_);
  const bool both_on_a = on_a.size() == 2;
  on_.disconnect(both_on_a ? a_ : b_, /*goodbye=*/true);
  on_.pass(1000, {both_on_a ? b_ : a_});
  EXPECT_EQ(started(both_on_a ? b_ : a_).size(), both_on_a ? 2U : on_b.size());
  EXPECT_EQ(on_.job(job).state, JobState::kRunning);
}

TEST_F(ServiceTest, StoppedItEndsWhenItsReplicasHaveAndLeavesItsRoom) {
  const JobId job = submit(4);
  const JobId gang = on_.submit(4).value_or_throw();
  EXPECT_EQ(on_.job(gang).state, JobState::kPending) << "there is no room beside the service";
  std::map<SessionId, std::vector<Rank>> replicas = {{a_, started(a_)}, {b_, started(b_)}};
  on_.stop(job);
  EXPECT_EQ(on_.job(job).state, JobState::kStopping);
  for (const auto& [session, ranks] : replicas) {
    for (const Rank replica : ranks) on_.exits(session, job, replica, 143, 15, true);
  }
  EXPECT_EQ(on_.job(job).state, JobState::kStopped);
  on_.pass(1000, {a_, b_});
  EXPECT_EQ(on_.job(gang).state, JobState::kStarting);
}

TEST_F(ServiceTest, WhatItKnowsNothingOfIsRefused) {
  const JobId job = submit(1);
  const SessionId session = started(a_).empty() ? b_ : a_;
  on_.store(session, 7, job, 0, {});
  const std::vector<StoreAnswerMessage> answers = on_.take<StoreAnswerMessage>(session);
  ASSERT_EQ(answers.size(), 1U);
  const StoreAnswerMessage& answer = answers.front();
  EXPECT_EQ(answer.call_id, 7U);
  EXPECT_EQ(answer.result.failure->kind, ErrorKind::kStale);
}

}  // namespace
}  // namespace longhaul
