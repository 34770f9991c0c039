// Links between ranks of one process: real connections on loopback, made, used and broken.
#include "links/links.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <numeric>
#include <optional>
#include <random>
#include <thread>

#include "longhaul/base/mutex.h"
#include "wire/socket.h"

namespace longhaul {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

using Bytes = std::vector<uint8_t>;

Instant in_seconds(int seconds) {
  return std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
}

Bytes random_bytes(size_t size, uint32_t seed) {
  Bytes bytes(size);
  std::mt19937 random(seed);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

Links::Options options_of(Rank rank, int size) {
  Links::Options options;
  options.rank = rank;
  options.size = size;
  options.generation = 4;
  options.token.fill(0xab);
  options.address = "127.0.0.1";
  return options;
}

// What became of one send or receive; waits for it. By a lock of ours: ThreadSanitizer does not see
// what libstdc++'s futures are made of.
class Outcome {
 public:
  // Each keeps what it fills: the test may be done with it a moment before the call has returned.
  Sent sent() {
    return [result = result_](const LinkFault* fault) { result->set(fault); };
  }
  Received received() {
    return [result = result_](const LinkFault* fault, size_t) { result->set(fault); };
  }
  // "": all is well.
  std::string fault() {
    MutexLock lock(result_->mutex);
    while (!result_->text) result_->changed.wait(result_->mutex);
    return *result_->text;
  }
  bool is_over() {
    MutexLock lock(result_->mutex);
    return result_->text.has_value();
  }

 private:
  struct Result {
    void set(const LinkFault* fault) {
      MutexLock lock(mutex);
      text = fault == nullptr ? "" : fault->message;
      changed.notify_all();
    }
    Mutex mutex;
    CondVar changed;
    std::optional<std::string> text LONGHAUL_GUARDED_BY(mutex);
  };
  std::shared_ptr<Result> result_ = std::make_shared<Result>();
};

class LinksTest : public ::testing::Test {
 protected:
  void start(int size, uint64_t window = uint64_t{64} << 20) {
    for (Rank rank = 0; rank < size; ++rank) {
      Links::Options options = options_of(rank, size);
      options.window = window;
      add(options);
    }
  }
  void add(const Links::Options& options) {
    auto links = Links::start(options);
    ASSERT_TRUE(links) << links.failure().message;
    links_.push_back(std::move(*links));
    endpoints_.push_back({"127.0.0.1", links_.back()->port()});
  }
  std::vector<Result<void>> connect(int seconds = 30) {
    std::vector<Result<void>> results(links_.size());
    std::vector<std::thread> threads;
    threads.reserve(links_.size());
    for (size_t rank = 0; rank < links_.size(); ++rank) {
      threads.emplace_back(
          [&, rank] { results[rank] = links_[rank]->connect(endpoints_, in_seconds(seconds)); });
    }
    for (std::thread& thread : threads) thread.join();
    return results;
  }
  void meet(int size, uint64_t window = uint64_t{64} << 20) {
    start(size, window);
    for (const Result<void>& met : connect()) ASSERT_TRUE(met) << met.failure().message;
  }
  UniqueFd stranger(Rank rank) {
    return std::move(
        *connect_tcp("127.0.0.1", endpoints_[static_cast<size_t>(rank)].port, milliseconds(5'000)));
  }
  // As a rank would say it.
  static Bytes hello(Rank rank, int size, uint64_t generation, uint8_t token) {
    Bytes bytes(kLinkHeaderBytes + kLinkHelloBytes);
    uint8_t* const body = bytes.data() + kLinkHeaderBytes;
    store(body, static_cast<uint32_t>(rank));
    store(body + 4, static_cast<uint32_t>(size));
    store(body + 8, generation);
    std::fill(body + 16, body + 32, token);
    write_link_header({FrameKind::kHello, 0, 0, 0, 0}, {body, kLinkHelloBytes}, bytes.data());
    return bytes;
  }

  std::vector<std::unique_ptr<Links>> links_;
  std::vector<Links::Endpoint> endpoints_;
};

TEST_F(LinksTest, EveryPairExchangesMessagesOfAnySizeAtOnce) {
  constexpr int kRanks = 4;
  constexpr uint64_t kOperations = 12;
  meet(kRanks, 1 << 20);
  struct Exchange {
    Bytes bytes;
    Bytes into;
    Outcome sent;
    Outcome received;
  };
  std::vector<std::unique_ptr<Exchange>> all;
  for (Rank from = 0; from < kRanks; ++from) {
    for (Rank to = 0; to < kRanks; ++to) {
      if (from == to) continue;
      for (uint64_t operation = 0; operation < kOperations; ++operation) {
        auto exchange = std::make_unique<Exchange>();
        const size_t size = operation % 3 == 0 ? 2'000'000 : operation * 1'000;
        exchange->bytes = random_bytes(size, static_cast<uint32_t>(from * 100 + to));
        exchange->into.resize(size);
        const auto send = [&] {
          links_[from]->send(to, operation, exchange->bytes, exchange->sent.sent());
        };
        const auto receive = [&] {
          links_[to]->receive(from, operation, exchange->into, true, exchange->received.received());
        };
        // Either may come first.
        if (operation % 2 == 0) receive();
        send();
        if (operation % 2 != 0) receive();
        all.push_back(std::move(exchange));
      }
    }
  }
  for (const auto& exchange : all) {
    ASSERT_EQ(exchange->sent.fault(), "");
    ASSERT_EQ(exchange->received.fault(), "");
    ASSERT_EQ(exchange->into, exchange->bytes);
  }
}

TEST_F(LinksTest, WhoeverIsCalledMaySendAndReceiveAgain) {
  meet(2);
  static constexpr int kRounds = 1'000;
  // One ball, thrown to and fro from callbacks alone; a round is over when it was caught, and its
  // thrower knows that it is gone.
  struct Game {
    std::atomic<int> open{0};
    int round = 0;
    Bytes ping = Bytes(8);
    Bytes pong = Bytes(8);
    Outcome done;
    std::function<void()> serve;
  };
  const auto game = std::make_shared<Game>();
  const auto step = [game] {
    if (--game->open > 0) return;
    if (++game->round == kRounds) {
      game->done.sent()(nullptr);
    } else {
      game->serve();
    }
  };
  game->serve = [this, step, game = game.get()] {
    game->open = 2;
    links_[1]->receive(0, 1, game->pong, true, [step](const LinkFault*, size_t) { step(); });
    links_[0]->send(1, 1, game->ping, [step](const LinkFault*) { step(); });
  };
  game->serve();
  EXPECT_EQ(game->done.fault(), "");
  links_.clear();
  game->serve = nullptr;
}

TEST_F(LinksTest, ARankThatIsGoneEndsWhatWaitsForItAndNothingElse) {
  meet(3);
  Bytes from_one(100);
  Bytes from_two(100);
  Outcome lost;
  Outcome well;
  links_[0]->receive(1, 1, from_one, true, lost.received());
  links_[0]->receive(2, 1, from_two, true, well.received());
  links_[1]->abort({ErrorKind::kPeerLost, 1, "killed"});
  EXPECT_THAT(lost.fault(), HasSubstr("rank 1 is gone: its connection closed"));
  EXPECT_FALSE(well.is_over());
  Outcome late;
  links_[0]->send(1, 2, from_one, late.sent());
  EXPECT_THAT(late.fault(), HasSubstr("rank 1 is gone"));
  Outcome sent;
  const Bytes bytes(100);
  links_[2]->send(0, 1, bytes, sent.sent());
  EXPECT_EQ(well.fault(), "");
  EXPECT_EQ(sent.fault(), "");
}

TEST_F(LinksTest, ARankThatLeavesInOrderHasSentAllThatItGave) {
  meet(3);
  const Bytes bytes = random_bytes(20'000'000, 1);
  Bytes into(bytes.size());
  Outcome sent;
  Outcome received;
  Outcome nothing;
  links_[1]->send(0, 1, bytes, sent.sent());
  links_[0]->receive(1, 2, into, true, nothing.received());
  std::thread leaving([this] { links_[1].reset(); });
  links_[0]->receive(1, 1, into, true, received.received());
  EXPECT_EQ(received.fault(), "");
  EXPECT_EQ(sent.fault(), "");
  EXPECT_EQ(into, bytes);
  EXPECT_EQ(nothing.fault(), "rank 1 has left this world");
  leaving.join();
}

TEST_F(LinksTest, AbortEndsEverythingWithItsReasonAndWhateverComesLater) {
  meet(3);
  std::vector<std::unique_ptr<Outcome>> outcomes;
  std::vector<Bytes> memory(40, Bytes(1'000'000));
  for (size_t i = 0; i < memory.size(); ++i) {
    outcomes.push_back(std::make_unique<Outcome>());
    if (i % 2 == 0) {
      links_[0]->receive(1 + static_cast<Rank>(i) % 2, i, memory[i], true,
                         outcomes.back()->received());
    } else {
      // Nobody receives these, and the window is full soon.
      links_[0]->send(2, i, memory[i], outcomes.back()->sent());
    }
  }
  std::thread([this] { links_[0]->abort({ErrorKind::kPeerLost, 2, "rank 2 did it"}); }).join();
  Outcome late;
  links_[0]->receive(1, 99, memory[0], true, late.received());
  EXPECT_EQ(late.fault(), "rank 2 did it");
  for (const auto& outcome : outcomes) EXPECT_THAT(outcome->fault(), AnyOf("", "rank 2 did it"));
  EXPECT_EQ(outcomes[0]->fault(), "rank 2 did it");
}

TEST_F(LinksTest, ClosedOnesSaySoAtOnce) {
  meet(2);
  Bytes into(10);
  Outcome waits;
  links_[0]->receive(1, 1, into, true, waits.received());
  links_[0]->close();
  EXPECT_EQ(waits.fault(), "rank 0 has left this world");
  Outcome late;
  links_[0]->send(1, 1, into, late.sent());
  EXPECT_TRUE(late.is_over());
  EXPECT_EQ(late.fault(), "rank 0 has left this world");
}

TEST_F(LinksTest, AnotherSizeIsAnErrorThatNamesItsSender) {
  meet(2);
  const Bytes longer(400);
  Bytes into(200);
  Outcome sent;
  Outcome received;
  links_[0]->receive(1, 7, into, true, received.received());
  links_[1]->send(0, 7, longer, sent.sent());
  EXPECT_THAT(received.fault(), HasSubstr("rank 1 sent 400 bytes where 200 are expected"));
  EXPECT_EQ(sent.fault(), "");
}

TEST_F(LinksTest, AManyRankedWorldMeets) {
  meet(24);
  const Bytes bytes(10);
  Bytes into(10);
  Outcome sent;
  Outcome received;
  links_[23]->receive(0, 1, into, true, received.received());
  links_[0]->send(23, 1, bytes, sent.sent());
  EXPECT_EQ(received.fault(), "");
  EXPECT_EQ(sent.fault(), "");
}

TEST_F(LinksTest, ARankThatDoesNotComeIsNamed) {
  start(3);
  std::vector<Result<void>> results(2);
  std::vector<std::thread> threads;
  threads.reserve(results.size());
  for (size_t rank = 0; rank < results.size(); ++rank) {
    threads.emplace_back([&, rank] {
      results[rank] =
          links_[rank]->connect(endpoints_, std::chrono::steady_clock::now() + milliseconds(300));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Result<void>& result : results) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.failure().kind, ErrorKind::kDeadline);
    EXPECT_THAT(result.failure().message, HasSubstr("still waits for rank 2 to connect"));
  }
}

TEST_F(LinksTest, ARankThatCannotBeReachedIsNamedAtOnce) {
  start(2);
  links_[0].reset();
  const Result<void> result = links_[1]->connect(endpoints_, in_seconds(30));
  ASSERT_FALSE(result);
  EXPECT_THAT(result.failure().message, HasSubstr("rank 1 cannot reach rank 0"));
}

TEST_F(LinksTest, WhoeverIsOfAnotherWorldIsSentAwayAndHearsSo) {
  Links::Options other = options_of(1, 2);
  other.generation = 5;
  add(options_of(0, 2));
  add(other);
  const Result<void> result = links_[1]->connect(endpoints_, in_seconds(30));
  ASSERT_FALSE(result);
  EXPECT_THAT(result.failure().message, HasSubstr("rank 0 sent rank 1 away"));
}

TEST_F(LinksTest, StrangersLearnNothingAndTheWorldMeetsAllTheSame) {
  start(3);
  const UniqueFd silent = stranger(0);
  const UniqueFd talker = stranger(0);
  const Bytes rubbish(5'000, 'x');
  ::send(talker.get(), rubbish.data(), rubbish.size(), MSG_NOSIGNAL);
  std::vector<UniqueFd> liars;
  for (const Bytes& said : {hello(2, 3, 4, 0xcd), hello(2, 3, 5, 0xab), hello(2, 4, 4, 0xab),
                            hello(1, 3, 4, 0xab), hello(7, 3, 4, 0xab), hello(-1, 3, 4, 0xab)}) {
    liars.push_back(stranger(1));
    ASSERT_TRUE(write_all(liars.back().get(), said, in_seconds(30)));
  }
  for (const Result<void>& met : connect()) EXPECT_TRUE(met) << met.failure().message;
  for (const UniqueFd& liar : liars) {
    uint8_t answer[1];
    const Result<void> read = read_exactly(liar.get(), answer, in_seconds(30));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.failure().kind, ErrorKind::kPeerLost);
  }
}

TEST_F(LinksTest, BytesThatMakeNoSenseEndTheLinkAndNameTheirSender) {
  add(options_of(0, 2));
  const UniqueFd mad = stranger(0);
  ASSERT_TRUE(write_all(mad.get(), hello(1, 2, 4, 0xab), in_seconds(30)));
  ASSERT_TRUE(links_[0]->connect({{"", 0}, {"", 0}}, in_seconds(30)));
  Bytes into(10);
  Outcome received;
  links_[0]->receive(1, 1, into, true, received.received());
  ASSERT_TRUE(write_all(mad.get(), Bytes(100, 'x'), in_seconds(30)));
  EXPECT_THAT(received.fault(), HasSubstr("rank 1 sent bytes that make no sense"));
}

// Bytes of any kind behind a right hello: an error or nothing, never the end of the process.
TEST_F(LinksTest, NothingThatComesEndsTheProcess) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    links_.clear();
    endpoints_.clear();
    add(options_of(0, 2));
    const UniqueFd mad = stranger(0);
    Bytes said = hello(1, 2, 4, 0xab);
    for (int frame = 0; frame < 20; ++frame) {
      const Bytes body = random_bytes(random() % 100, seed);
      Bytes made(kLinkHeaderBytes + body.size());
      write_link_header({static_cast<FrameKind>(random() % 9), random() % 4, random() % 300,
                         random() % 3 == 0 ? random() : random() % 200, 0},
                        body, made.data());
      std::copy(body.begin(), body.end(), made.begin() + kLinkHeaderBytes);
      if (random() % 8 == 0) made[random() % made.size()] ^= 1;
      said.insert(said.end(), made.begin(), made.end());
    }
    std::vector<Bytes> memory(8, Bytes(100));
    std::vector<std::unique_ptr<Outcome>> outcomes;
    for (size_t i = 0; i < memory.size(); ++i) {
      outcomes.push_back(std::make_unique<Outcome>());
      links_[0]->receive(1, i % 4, memory[i], i % 2 == 0, outcomes.back()->received());
    }
    (void)write_all(mad.get(), said, in_seconds(30));
    ::shutdown(mad.get(), SHUT_WR);
    for (const auto& outcome : outcomes) (void)outcome->fault();
  }
}

TEST_F(LinksTest, ManyThreadsUseThemAtOnce) {
  meet(2);
  constexpr uint64_t kThreads = 8;
  constexpr uint64_t kRounds = 200;
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (uint64_t thread = 0; thread < kThreads; ++thread) {
    for (const Rank rank : {0, 1}) {
      threads.emplace_back([&, thread, rank] {
        for (uint64_t round = 0; round < kRounds; ++round) {
          const Bytes bytes(100 + round, static_cast<uint8_t>(thread));
          Bytes into(bytes.size());
          Outcome sent;
          Outcome received;
          links_[rank]->receive(1 - rank, thread, into, true, received.received());
          links_[rank]->send(1 - rank, thread, bytes, sent.sent());
          if (!sent.fault().empty() || !received.fault().empty() || into != bytes) ++wrong;
        }
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace longhaul
