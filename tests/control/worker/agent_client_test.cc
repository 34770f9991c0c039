// The agent client of a rank against a real worker and a master that the test plays.
#include "longhaul/agent/client/agent_client.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <sstream>

#include "tests/control/worker/worker_host.h"

namespace longhaul {
namespace {

using testing::FakeMaster;
using testing::WorkerHost;

// A worker with two ranks that sleep; the test speaks in the name of rank 1.
class AgentClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(host_.registered());
    host_.launch("echo $LONGHAUL_AGENT $LONGHAUL_AGENT_TOKEN end; exec sleep 1000", 2);
    ASSERT_TRUE(host_.printed("end", 1));
    std::istringstream words(WorkerHost::output(host_.master.messages(), 1));
    words >> address_ >> token_;
    client_ = std::make_unique<AgentClient>(address_, token_);
  }

  bool heard(const std::function<bool(const v1::RankEvent&)>& wanted) {
    return host_.master.wait([&](const FakeMaster::Messages& messages) {
      for (const auto& message : messages) {
        if (message.has_rank_event() && message.rank_event().rank() == 1 &&
            wanted(message.rank_event())) {
          return true;
        }
      }
      return false;
    });
  }

  WorkerHost host_;
  std::string address_;
  std::string token_;
  std::unique_ptr<AgentClient> client_;
};

TEST_F(AgentClientTest, JoinsAndLearnsItsPlace) {
  const Placement placement = client_->join().value_or_throw();
  EXPECT_EQ(placement.job_id, "j1");
  EXPECT_EQ(placement.generation, 1U);
  EXPECT_EQ(placement.rank, 1);
  EXPECT_EQ(placement.world_size, 2);
  EXPECT_EQ(placement.local_rank, 1);
  EXPECT_EQ(placement.local_world_size, 2);
  EXPECT_EQ(placement.host_address, "127.0.0.1");
  EXPECT_TRUE(heard([](const v1::RankEvent& event) { return event.has_joined(); }));
}

TEST_F(AgentClientTest, UsesTheStoreOfTheMaster) {
  const std::string bytes("a\0b\xFF", 4);
  client_->store_set("key", bytes).value_or_throw();
  EXPECT_EQ(client_->store_get("key", milliseconds(10'000)).value_or_throw(), bytes);
  client_->store_wait({"key"}, milliseconds(10'000)).value_or_throw();
  EXPECT_EQ(client_->store_add("count", 2).value_or_throw(), 2);
  EXPECT_EQ(client_->store_add("count", 3).value_or_throw(), 5);
  EXPECT_TRUE(client_->store_check({"key"}).value_or_throw());
  EXPECT_TRUE(client_->store_delete("key").value_or_throw());
  EXPECT_FALSE(client_->store_delete("key").value_or_throw());
  EXPECT_FALSE(client_->store_check({"key"}).value_or_throw());
  EXPECT_EQ(client_->store_compare_set("cas", "", "first").value_or_throw(), "first");
  EXPECT_EQ(client_->store_compare_set("cas", "other", "second").value_or_throw(), "first");
}

TEST_F(AgentClientTest, AWaitIsEndedByWhatAnotherThreadSets) {
  Result<std::string> got = Failure{};
  Thread waiter("waiter", [&] { got = client_->store_get("later", milliseconds(20'000)); });
  ASSERT_TRUE(host_.master.wait([](const FakeMaster::Messages& messages) {
    return !messages.empty() && std::any_of(messages.begin(), messages.end(), [](const auto& m) {
      return m.store_call().request().operation() == v1::StoreRequest::GET;
    });
  }));
  client_->store_set("later", "now").value_or_throw();
  waiter.join();
  EXPECT_EQ(std::move(got).value_or_throw(), "now");
}

TEST_F(AgentClientTest, ReportsProgressAndFaultsAndLeaves) {
  RankProgress progress;
  progress.step = 12;
  progress.total_steps = 100;
  progress.loss = 1.5;
  progress.has_loss = true;
  progress.codec = "zstd";
  EXPECT_FALSE(client_->report(progress).value_or_throw().stop_requested);
  EXPECT_TRUE(heard([](const v1::RankEvent& event) {
    return event.progress().step() == 12 && event.progress().loss() == 1.5;
  }));
  client_->report_fault({ErrorKind::kPeerLost, "rank 0 is gone", 0}).value_or_throw();
  EXPECT_TRUE(heard([](const v1::RankEvent& event) {
    return event.fault().kind() == "peer lost" && event.fault().message() == "rank 0 is gone";
  }));
  client_->leave().value_or_throw();
  EXPECT_TRUE(heard([](const v1::RankEvent& event) { return event.has_left(); }));
}

TEST_F(AgentClientTest, AStrangerIsRefused) {
  AgentClient stranger(address_, "guess");
  const Result<Placement> joined = stranger.join();
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.failure().kind, ErrorKind::kDenied);
  EXPECT_NE(joined.failure().message.find("token"), std::string::npos);
  EXPECT_FALSE(stranger.store_set("key", "value"));
  EXPECT_FALSE(stranger.report({}));
}

TEST_F(AgentClientTest, AWaitEndsWithTheReasonWhenTheJobIsStopped) {
  Result<std::string> got = std::string();
  Thread waiter("waiter", [&] { got = client_->store_get("never", milliseconds(60'000)); });
  ASSERT_TRUE(host_.master.wait([](const FakeMaster::Messages& messages) {
    return std::any_of(messages.begin(), messages.end(),
                       [](const auto& m) { return m.has_store_call(); });
  }));
  host_.stop_ranks(0, "rank 0 died");
  waiter.join();
  ASSERT_FALSE(got);
  EXPECT_EQ(got.failure().kind, ErrorKind::kPeerLost);
  EXPECT_EQ(got.failure().message, "rank 0 died");
}

TEST_F(AgentClientTest, AWaitIsCarriedOnThroughALostSession) {
  Result<std::string> got = Failure{};
  Thread waiter("waiter", [&] { got = client_->store_get("later", milliseconds(60'000)); });
  const auto store_calls = [](const FakeMaster::Messages& messages) {
    return std::count_if(messages.begin(), messages.end(),
                         [](const auto& m) { return m.has_store_call(); });
  };
  ASSERT_TRUE(host_.master.wait([&](const auto& messages) { return store_calls(messages) == 1; }));
  host_.master.drop_session();
  ASSERT_TRUE(host_.master.wait([&](const auto& messages) { return store_calls(messages) == 2; }));
  client_->store_set("later", "survived").value_or_throw();
  waiter.join();
  EXPECT_EQ(std::move(got).value_or_throw(), "survived");
}

TEST_F(AgentClientTest, AMasterThatIsGoneIsNamed) {
  host_.master.stop();
  const Result<std::string> got = client_->store_get("key", milliseconds(60'000));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.failure().kind, ErrorKind::kUnavailable);
  EXPECT_NE(got.failure().message.find(host_.master.address()), std::string::npos)
      << got.failure().message;
}

TEST_F(AgentClientTest, AWorkerThatIsGoneIsNamed) {
  host_.end(true).value_or_throw();
  AgentClient client(address_, token_, milliseconds(200));
  const Result<Placement> joined = client.join();
  ASSERT_FALSE(joined);
  EXPECT_EQ(joined.failure().kind, ErrorKind::kUnavailable);
  EXPECT_NE(joined.failure().message.find(address_), std::string::npos) << joined.failure().message;
}

TEST(AgentClientEnvironment, SaysWhatIsMissing) {
  ::unsetenv(AgentClient::kAddressVariable);
  ::unsetenv(AgentClient::kTokenVariable);
  EXPECT_FALSE(AgentClient::in_environment());
  EXPECT_FALSE(AgentClient::from_environment());
  ::setenv(AgentClient::kAddressVariable, "localhost:1", 1);
  EXPECT_TRUE(AgentClient::in_environment());
  EXPECT_NE(AgentClient::from_environment().failure().message.find("LONGHAUL_AGENT_TOKEN"),
            std::string::npos);
  ::setenv(AgentClient::kTokenVariable, "t", 1);
  EXPECT_NE(AgentClient::from_environment().failure().message.find("'localhost:1'"),
            std::string::npos);
  ::setenv(AgentClient::kAddressVariable, "unix:/tmp/agent.sock", 1);
  EXPECT_TRUE(AgentClient::from_environment());
  ::unsetenv(AgentClient::kAddressVariable);
  ::unsetenv(AgentClient::kTokenVariable);
}

}  // namespace
}  // namespace longhaul
