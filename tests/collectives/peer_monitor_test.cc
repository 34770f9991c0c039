// Who is gone: real connections on loopback, made and broken.
#include "collectives/peer_monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/socket.h>

#include <future>
#include <thread>

#include "collectives/operation_watch.h"
#include "collectives/verdict.h"
#include "wire/socket.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;

Instant in_seconds(int seconds) {
  return std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
}

PeerMonitor::Options options_of(Rank rank, int size) {
  PeerMonitor::Options options;
  options.rank = rank;
  options.size = size;
  options.generation = 4;
  options.token.fill(0xab);
  options.address = "127.0.0.1";
  options.beat_interval = milliseconds(50);
  options.silence_limit = milliseconds(30'000);
  return options;
}

// Monitors of all ranks, connected.
class MonitorTest : public ::testing::Test {
 protected:
  void start(int size) {
    for (Rank rank = 0; rank < size; ++rank) add(options_of(rank, size));
  }
  void add(const PeerMonitor::Options& options) {
    auto monitor = PeerMonitor::start(options, nullptr);
    ASSERT_TRUE(monitor.ok());
    monitors_.push_back(std::move(*monitor));
    endpoints_.push_back({"127.0.0.1", monitors_.back()->port()});
  }
  std::vector<Result<void>> connect(int seconds = 30) {
    std::vector<Result<void>> results(monitors_.size());
    std::vector<std::thread> threads;
    threads.reserve(monitors_.size());
    for (size_t rank = 0; rank < monitors_.size(); ++rank) {
      threads.emplace_back(
          [&, rank] { results[rank] = monitors_[rank]->connect(endpoints_, in_seconds(seconds)); });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }
  UniqueFd stranger(Rank rank) {
    return std::move(*connect_tcp("127.0.0.1", endpoints_[rank].port, milliseconds(5000)));
  }

  std::vector<std::unique_ptr<PeerMonitor>> monitors_;
  std::vector<PeerMonitor::Endpoint> endpoints_;
};

TEST_F(MonitorTest, AHealthyWorldHasNoSuspect) {
  start(4);
  for (const Result<void>& result : connect()) EXPECT_TRUE(result.ok());
  for (const auto& monitor : monitors_) EXPECT_EQ(monitor->suspect(), -1);
}

TEST_F(MonitorTest, ARankThatLeavesInOrderIsNoFaultButIsRemembered) {
  start(3);
  connect();
  monitors_[1].reset();
  EXPECT_EQ(monitors_[0]->wait_for_fault(milliseconds(300)), std::nullopt);
  EXPECT_EQ(monitors_[0]->left(), 1);
  EXPECT_EQ(monitors_[2]->suspect(), 1);
}

TEST_F(MonitorTest, WordOfAFaultReachesEverybodyAndTheFirstStands) {
  start(4);
  connect();
  monitors_[2]->announce({ErrorKind::kCorrupt, 1, "rank 1 sent rubbish"});
  for (const auto& monitor : monitors_) {
    const auto fault = monitor->wait_for_fault(std::chrono::seconds(30));
    ASSERT_TRUE(fault.has_value());
    EXPECT_EQ(fault->culprit, 1);
    EXPECT_EQ(fault->kind, ErrorKind::kCorrupt);
    EXPECT_THAT(fault->message, HasSubstr("rubbish"));
  }
  monitors_[0]->announce({ErrorKind::kPeerLost, 3, "too late"});
  EXPECT_EQ(monitors_[0]->suspect(), 1);
}

// Not only those that the first version of this wire knew.
TEST_F(MonitorTest, AFaultOfAnyKindArrivesAndItsSenderIsNoCulprit) {
  for (const ErrorKind kind : {ErrorKind::kInvalid, ErrorKind::kExhausted, ErrorKind::kDenied}) {
    monitors_.clear();
    endpoints_.clear();
    start(3);
    connect();
    monitors_[1]->announce({kind, 2, "rank 2's disk is full"});
    for (const auto& monitor : monitors_) {
      const auto fault = monitor->wait_for_fault(std::chrono::seconds(30));
      ASSERT_TRUE(fault.has_value());
      EXPECT_EQ(fault->kind, kind) << to_string(kind);
      EXPECT_EQ(fault->culprit, 2) << fault->message;
    }
  }
}

// A newer version's: it is heard, as well as this one can.
TEST_F(MonitorTest, AKindThatNobodyKnowsYetIsNoNonsense) {
  start(2);
  connect();
  monitors_[0]->announce({static_cast<ErrorKind>(200), 1, "from the future"});
  const auto fault = monitors_[1]->wait_for_fault(std::chrono::seconds(30));
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->kind, ErrorKind::kInternal);
  EXPECT_EQ(fault->message, "from the future");
}

// An operation that a fault ends may be the last to hold the world that it ran in.
class LastHolder final : public AbortableWork {
 public:
  LastHolder(std::shared_ptr<OperationWatch> world, std::future<void> others_gone)
      : world_(std::move(world)), others_gone_(std::move(others_gone)) {}
  // On the monitor's thread.
  void wake() override {
    if (!world_) return;
    others_gone_.wait();
    world_.reset();
    woken_.set_value();
  }
  void wait_until_woken() { woken_.get_future().wait(); }

 private:
  std::shared_ptr<OperationWatch> world_;
  std::future<void> others_gone_;
  std::promise<void> woken_;
};

TEST(OperationWatchTest, TheLastReferenceMayGoOnTheMonitorsOwnThread) {
  CommunicatorOptions options;
  options.size = 2;
  auto watch = std::make_shared<OperationWatch>(options);
  ASSERT_TRUE(watch->start_monitor(options_of(0, 2)).ok());
  std::promise<void> gone;
  const auto work = c10::make_intrusive<LastHolder>(watch, gone.get_future());
  watch->add(watch->next_work(), work);
  watch->fail(CollectiveError(ErrorKind::kPeerLost, "rank 1 is gone", 1));
  const std::weak_ptr<OperationWatch> weak = watch;
  watch.reset();
  gone.set_value();
  work->wait_until_woken();
  while (!weak.expired()) std::this_thread::yield();
}

TEST_F(MonitorTest, AFaultThatKnowsTheCulpritBeatsOneThatDoesNot) {
  start(2);
  connect();
  monitors_[0]->announce({ErrorKind::kDeadline, -1, "nobody knows"});
  ASSERT_TRUE(monitors_[1]->wait_for_fault(std::chrono::seconds(30)).has_value());
  monitors_[0]->announce({ErrorKind::kDeadline, 1, "it was 1"});
  const Instant deadline = in_seconds(30);
  while (monitors_[1]->suspect() != 1 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  EXPECT_EQ(monitors_[1]->suspect(), 1);
}

TEST_F(MonitorTest, StrangersAreDroppedAndTheWorldMeetsAllTheSame) {
  start(3);
  const UniqueFd silent = stranger(0);
  const UniqueFd talker = stranger(0);
  std::vector<uint8_t> rubbish(5000, 'x');
  send(talker.get(), rubbish.data(), rubbish.size(), MSG_NOSIGNAL);
  // The right form, the wrong secret.
  const UniqueFd liar = stranger(1);
  uint8_t hello[32] = {};
  store<uint32_t>(hello, 0x314d484c);
  store<uint32_t>(hello + 4, 2);
  store<uint64_t>(hello + 8, 4);
  send(liar.get(), hello, sizeof(hello), MSG_NOSIGNAL);
  for (const Result<void>& result : connect()) EXPECT_TRUE(result.ok());
  uint8_t answer[1];
  const Result<void> read = read_exactly(liar.get(), answer, in_seconds(30));
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.failure().kind, ErrorKind::kPeerLost);
  for (const auto& monitor : monitors_) EXPECT_EQ(monitor->suspect(), -1);
}

// All ranks of a large world come to rank 0 at once, and each says hello when its turn comes.
TEST_F(MonitorTest, ALargeWorldMeetsThoughAllConnectBeforeAnySaysHello) {
  constexpr int kRanks = 200;
  add(options_of(0, kRanks));
  std::vector<UniqueFd> ranks;
  for (Rank rank = 1; rank < kRanks; ++rank) ranks.push_back(stranger(0));
  auto connected = std::async(std::launch::async,
                              [this] { return monitors_[0]->connect(endpoints_, in_seconds(30)); });
  for (Rank rank = 1; rank < kRanks; ++rank) {
    uint8_t hello[32];
    store<uint32_t>(hello, 0x314d484c);
    store<uint32_t>(hello + 4, static_cast<uint32_t>(rank));
    store<uint64_t>(hello + 8, 4);
    std::fill(hello + 16, hello + 32, 0xab);
    const int fd = ranks[static_cast<size_t>(rank) - 1].get();
    ASSERT_TRUE(write_all(fd, hello, in_seconds(30)).ok()) << rank;
    ASSERT_TRUE(read_exactly(fd, hello, in_seconds(30)).ok()) << rank << " was sent away";
  }
  EXPECT_TRUE(connected.get().ok());
}

TEST_F(MonitorTest, OnceTheWorldIsCompleteNobodyCanConnect) {
  start(2);
  connect();
  const Instant deadline = in_seconds(30);
  bool refused = false;
  while (!refused && std::chrono::steady_clock::now() < deadline) {
    refused = !connect_tcp("127.0.0.1", endpoints_[0].port, milliseconds(1000)).ok();
  }
  EXPECT_TRUE(refused);
}

TEST_F(MonitorTest, ARankThatDoesNotConnectIsNamed) {
  start(3);
  // Rank 2, the one that connects to others, never does.
  std::vector<Result<void>> results(2);
  std::vector<std::thread> threads;
  threads.reserve(2);
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back(
        [&, rank] { results[rank] = monitors_[rank]->connect(endpoints_, in_seconds(1)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Result<void>& result : results) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.failure().kind, ErrorKind::kDeadline);
    EXPECT_THAT(result.failure().message, HasSubstr("rank 2"));
  }
}

TEST_F(MonitorTest, ARankOfAnotherGenerationIsAStranger) {
  add(options_of(0, 2));
  PeerMonitor::Options old = options_of(1, 2);
  old.generation = 3;
  add(old);
  for (const Result<void>& result : connect(1)) EXPECT_FALSE(result.ok());
}

TEST_F(MonitorTest, BytesThatMakeNoSenseEndTheConnectionAndNotTheProcess) {
  // A member with the secret that goes mad: rank 1 is a bare socket.
  add(options_of(0, 2));
  const UniqueFd mad = stranger(0);
  uint8_t hello[32];
  store<uint32_t>(hello, 0x314d484c);
  store<uint32_t>(hello + 4, 1);
  store<uint64_t>(hello + 8, 4);
  std::fill(hello + 16, hello + 32, 0xab);
  ASSERT_TRUE(write_all(mad.get(), hello, in_seconds(30)).ok());
  ASSERT_TRUE(monitors_[0]->connect(endpoints_, in_seconds(30)).ok());
  const std::vector<uint8_t> rubbish(100, 0xff);
  ASSERT_TRUE(write_all(mad.get(), rubbish, in_seconds(30)).ok());
  const auto fault = monitors_[0]->wait_for_fault(std::chrono::seconds(30));
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->culprit, 1);
  EXPECT_THAT(fault->message, HasSubstr("make no sense"));
}

TEST_F(MonitorTest, SilenceMakesASuspectButNoFault) {
  PeerMonitor::Options options = options_of(0, 2);
  options.silence_limit = milliseconds(200);
  add(options);
  const UniqueFd quiet = stranger(0);
  uint8_t hello[32];
  store<uint32_t>(hello, 0x314d484c);
  store<uint32_t>(hello + 4, 1);
  store<uint64_t>(hello + 8, 4);
  std::fill(hello + 16, hello + 32, 0xab);
  ASSERT_TRUE(write_all(quiet.get(), hello, in_seconds(30)).ok());
  ASSERT_TRUE(monitors_[0]->connect(endpoints_, in_seconds(30)).ok());
  EXPECT_EQ(monitors_[0]->wait_for_fault(milliseconds(600)), std::nullopt);
  EXPECT_EQ(monitors_[0]->suspect(), 1);
}

TEST(VerdictTest, WhatTheMonitorKnowsCountsMoreThanWhatTheBackendSays) {
  Evidence evidence;
  evidence.backend_text = "Connection closed by peer [127.0.0.1]:4242";
  evidence.fault = PeerFault{ErrorKind::kPeerLost, 2, "rank 2 is gone: its connection closed"};
  evidence.left = 1;
  const CollectiveError error = judge(0, "all-reduce of 4 B (bucket 1 of step 2)", evidence);
  EXPECT_EQ(error.peer(), 2);
  EXPECT_STREQ(error.what(),
               "all-reduce of 4 B (bucket 1 of step 2) failed on rank 0: rank 2 is gone: its "
               "connection closed");
}

TEST(VerdictTest, TimeThatRanOutBlamesTheSilentThenTheLeftThenNobody) {
  Evidence evidence;
  evidence.backend_text = "Timed out waiting 5000ms for recv operation to complete";
  evidence.timeout = milliseconds(5000);
  evidence.silent = 3;
  evidence.left = 1;
  EXPECT_EQ(judge(0, "barrier", evidence).peer(), 3);
  EXPECT_EQ(judge(0, "barrier", evidence).kind(), ErrorKind::kDeadline);
  evidence.silent = -1;
  EXPECT_EQ(judge(0, "barrier", evidence).peer(), 1);
  evidence.left = -1;
  evidence.laggard = PeerMonitor::Laggard{2, 7, 8};
  EXPECT_EQ(judge(0, "barrier", evidence).peer(), 2);
  evidence.laggard.reset();
  EXPECT_EQ(judge(0, "barrier", evidence).peer(), -1);
  EXPECT_EQ(judge(0, "barrier", evidence).kind(), ErrorKind::kDeadline);
}

TEST(VerdictTest, ABrokenConnectionBlamesWhoLeft) {
  Evidence evidence;
  evidence.backend_text = "Connection closed by peer";
  evidence.left = 1;
  EXPECT_EQ(judge(0, "barrier", evidence).peer(), 1);
  EXPECT_EQ(judge(0, "barrier", evidence).kind(), ErrorKind::kPeerLost);
}

}  // namespace
}  // namespace longhaul::testing
