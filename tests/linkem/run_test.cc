// linkem as a user runs it: real namespaces, real TCP. Skipped without root or /dev/net/tun.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <memory>

#include "longhaul/base/strings.h"
#include "tests/support/child_process.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

constexpr int kMissing = 77;
constexpr int kUsage = 64;

std::string program(const std::string& name) {
  return std::string(LONGHAUL_TEST_PROGRAMS) + "/" + name;
}

// Whether some process is in the network namespace `link` ("net:[4026532...]") or holds it open. A
// namespace that nobody has is gone, and its devices with it.
bool somebody_has(const std::string& link) {
  std::error_code gone;
  for (const auto& process : std::filesystem::directory_iterator("/proc")) {
    const std::string name = process.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (std::filesystem::read_symlink(process.path() / "ns/net", gone) == link) return true;
    for (const auto& fd : std::filesystem::directory_iterator(process.path() / "fd", gone)) {
      if (std::filesystem::read_symlink(fd.path(), gone) == link) return true;
    }
  }
  return false;
}

class Linkem : public ::testing::Test {
 protected:
  // Starts `linkem run FLAGS -- COMMAND`.
  ChildProcess& start(const Words& flags, const Words& command) {
    Words words{program("linkem"), "run"};
    words.insert(words.end(), flags.begin(), flags.end());
    words.push_back("--");
    words.insert(words.end(), command.begin(), command.end());
    return start_words(words);
  }

  ChildProcess& start_words(const Words& words) {
    const std::string output = folder_.file(str_cat("run", ++runs_));
    const ChildProcess::Options options{{{"LINKEM_TEST", marker()}}, ""};
    process_ = std::make_unique<ChildProcess>(words, output, options);
    return *process_;
  }

  int exit_code(const Words& flags, const Words& command) {
    return start(flags, command).wait().value_or(-1);
  }

  // Every path to the end of a test leads through here.
  void TearDown() override {
    process_.reset();
    EXPECT_TRUE(eventually([&] { return left_over().empty(); }));
  }

  std::vector<pid_t> left_over() const { return processes_marked("LINKEM_TEST=" + marker()); }
  std::string marker() const { return folder_.path().filename(); }

  nlohmann::json report() const { return nlohmann::json::parse(read_text(report_file())); }
  std::string report_file() const { return folder_.file("report.json"); }
  static const nlohmann::json& link(const nlohmann::json& report, size_t host, bool up) {
    return report["links"][2 * host + (up ? 0 : 1)];
  }

  TempDir folder_;
  std::unique_ptr<ChildProcess> process_;
  int runs_ = 0;
};

// Those that emulate; the others only read flags.
class LinkemAsRoot : public Linkem {
 protected:
  void SetUp() override {
    if (exit_code({"--hosts", "1"}, {"true"}) == kMissing) {
      GTEST_SKIP() << "needs root and /dev/net/tun: " << process_->err();
    }
  }

  // Starts hosts that hold on until somebody ends them; returns the namespace of one.
  std::string start_holding(const Words& flags, const std::string& mode) {
    start(flags, {program("linkem-test-probe"), mode});
    EXPECT_TRUE(eventually([&] {
      return process_->out().find("[0] holding net:[") != std::string::npos &&
             process_->out().find("[1] holding net:[") != std::string::npos;
    })) << process_->err();
    const std::string out = process_->out();
    const size_t begin = out.find("[1] holding ") + 12;
    return out.substr(begin, out.find('\n', begin) - begin);
  }
};

TEST_F(LinkemAsRoot, TcpBetweenHostsNeverExceedsTheRate) {
  ASSERT_EQ(
      exit_code({"--hosts", "3", "--rate", "20mbit", "--rtt", "4ms", "--report", report_file()},
                {program("linkem-test-probe"), "tcp", "1000000"}),
      0)
      << process_->err();
  EXPECT_EQ(process_->out(), "[0] received 2000000\n");
  const nlohmann::json seen = report();
  const auto bytes = link(seen, 0, false)["delivered_bytes"].get<double>();
  EXPECT_GT(bytes, 2e6);
  EXPECT_LE(bytes * 8 / seen["seconds"].get<double>(), 20e6 * 1.01);
  // A link counts a packet when it decides that it will arrive; when the commands end, a few last
  // acknowledgements are still on their way to the switch.
  const int sent_up = link(seen, 1, true)["delivered_packets"].get<int>() +
                      link(seen, 2, true)["delivered_packets"].get<int>();
  const int came_down = link(seen, 0, false)["packets"].get<int>();
  EXPECT_LE(came_down, sent_up);
  EXPECT_LE(sent_up - came_down, 16);
  EXPECT_EQ(seen["unroutable"], 0);
  EXPECT_EQ(seen["dropped_at_device"], 0);
}

TEST_F(LinkemAsRoot, NoPacketOfAFarHostComesEarly) {
  ASSERT_EQ(exit_code({"--hosts", "2", "--rtt", "60ms", "--report", report_file()},
                      {program("linkem-test-probe"), "tcp", "1"}),
            0)
      << process_->err();
  // A connection, a byte and its answer: two round trips at least.
  EXPECT_GE(report()["seconds"].get<double>(), 0.12);
}

TEST_F(LinkemAsRoot, LossIsCountedAndTheSeedDecidesIt) {
  const auto lost_with_seed = [&](const std::string& seed) {
    EXPECT_EQ(
        exit_code({"--hosts", "2", "--up-loss", "10%", "--seed", seed, "--report", report_file()},
                  {program("linkem-test-probe"), "udp", "1000", "100"}),
        0);
    const nlohmann::json up = link(report(), 1, true);
    EXPECT_EQ(up["packets"], 1000);
    EXPECT_EQ(up["delivered_packets"].get<int>() + up["dropped_loss"].get<int>(), 1000);
    return up["dropped_loss"].get<int>();
  };
  const int lost = lost_with_seed("7");
  EXPECT_NEAR(lost, 100, 50);
  EXPECT_EQ(lost_with_seed("7"), lost);
}

TEST_F(LinkemAsRoot, TcpGetsThroughLossAndReordering) {
  ASSERT_EQ(exit_code({"--hosts", "2", "--loss", "2%", "--reorder", "5%", "--jitter", "1ms",
                       "--rtt", "4ms", "--report", report_file()},
                      {program("linkem-test-probe"), "tcp", "1000000"}),
            0)
      << process_->err();
  EXPECT_EQ(process_->out(), "[0] received 1000000\n");
  EXPECT_GT(link(report(), 1, true)["dropped_loss"].get<int>(), 0);
  EXPECT_GT(link(report(), 1, true)["reordered"].get<int>(), 0);
}

TEST_F(LinkemAsRoot, NothingPassesDuringAnOutage) {
  ASSERT_EQ(exit_code({"--hosts", "2", "--outage", "0+60m", "--report", report_file()},
                      {program("linkem-test-probe"), "udp", "20", "100"}),
            0);
  EXPECT_EQ(link(report(), 1, true)["dropped_outage"], 20);
  EXPECT_EQ(link(report(), 0, false)["packets"], 0);
}

TEST_F(LinkemAsRoot, AFullQueueDropsItsTail) {
  ASSERT_EQ(exit_code({"--hosts", "2", "--rate", "10kbit", "--queue", "10packets", "--report",
                       report_file()},
                      {program("linkem-test-probe"), "udp", "100", "1000"}),
            0);
  const nlohmann::json up = link(report(), 1, true);
  EXPECT_EQ(up["max_queue_packets"], 10);
  EXPECT_EQ(up["dropped_queue"].get<int>() + up["delivered_packets"].get<int>(), 100);
  EXPECT_GT(up["dropped_queue"].get<int>(), 0);
}

TEST_F(LinkemAsRoot, EveryHostKnowsWhoItIs) {
  ASSERT_EQ(exit_code({"--hosts", "2"},
                      {"sh", "-c",
                       "echo $LINKEM_HOST/$LINKEM_HOSTS {address} $LINKEM_ADDRESS $LINKEM_PEERS "
                       "$LINKEM_INTERFACE; echo oops{host} >&2"}),
            0);
  EXPECT_THAT(process_->out(),
              AllOf(HasSubstr("[0] 0/2 10.98.0.1 10.98.0.1 10.98.0.1,10.98.0.2 linkem0\n"),
                    HasSubstr("[1] 1/2 10.98.0.2 10.98.0.2 10.98.0.1,10.98.0.2 linkem0\n")));
  EXPECT_THAT(process_->err(), AllOf(HasSubstr("[0] oops0\n"), HasSubstr("[1] oops1\n")));
  EXPECT_THAT(process_->err(), HasSubstr("1 down"));
}

TEST_F(LinkemAsRoot, OneHostAloneHasOurStreams) {
  ASSERT_EQ(
      exit_code({"--hosts", "3", "--on", "2", "-o", "none"}, {"sh", "-c", "echo $LINKEM_HOST"}), 0);
  EXPECT_EQ(process_->out(), "2\n");
  EXPECT_EQ(process_->err(), "");
}

TEST_F(LinkemAsRoot, SummariesForProgramsAreOneLineOfJson) {
  ASSERT_EQ(exit_code({"--hosts", "2", "-o", "json", "--no-prefix"}, {"echo", "{host}"}), 0);
  const nlohmann::json summary = nlohmann::json::parse(process_->err());
  EXPECT_EQ(summary["schema"], 1);
  EXPECT_EQ(summary["links"].size(), 4U);
  EXPECT_THAT(process_->out(), AllOf(HasSubstr("0\n"), HasSubstr("1\n"), Not(HasSubstr("["))));
}

TEST_F(LinkemAsRoot, TheFirstFailuresCodeIsOurs) {
  EXPECT_EQ(exit_code({"--hosts", "3"}, {"sh", "-c", "exit $((LINKEM_HOST == 1 ? 3 : 0))"}), 3);
  EXPECT_EQ(exit_code({"--hosts", "1"}, {"sh", "-c", "kill -9 $$"}), 137);
  EXPECT_EQ(exit_code({"--hosts", "1"}, {"/no/such/program"}), 127);
  EXPECT_THAT(process_->err(), HasSubstr("cannot start '/no/such/program'"));
}

TEST_F(LinkemAsRoot, FailFastEndsTheOthers) {
  EXPECT_EQ(exit_code({"--hosts", "3", "--fail-fast"},
                      {"sh", "-c", "[ $LINKEM_HOST = 1 ] && exit 5; exec sleep 1000"}),
            5);
  EXPECT_TRUE(left_over().empty());
}

TEST_F(LinkemAsRoot, WhatACommandLeftBehindGoesWithTheEmulation) {
  EXPECT_EQ(exit_code({"--hosts", "2"}, {"sh", "-c", "setsid sleep 1000 & exit 0"}), 0);
  EXPECT_TRUE(left_over().empty());
}

TEST_F(LinkemAsRoot, AStopSignalEndsAllOfItAndSaysSo) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    const std::string net = start_holding({"--hosts", "2"}, "hold");
    EXPECT_TRUE(somebody_has(net));
    process_->kill(signal);
    EXPECT_EQ(process_->wait(), 128 + signal);
    EXPECT_TRUE(left_over().empty());
    EXPECT_FALSE(somebody_has(net));
    EXPECT_THAT(process_->err(), HasSubstr("1 down"));
  }
}

TEST_F(LinkemAsRoot, CommandsThatDoNotListenAreKilled) {
  start_holding({"--hosts", "2", "--grace", "50ms"}, "deaf");
  process_->kill(SIGTERM);
  EXPECT_EQ(process_->wait(), 143);
  EXPECT_TRUE(left_over().empty());
}

TEST_F(LinkemAsRoot, NothingOutlivesAKilledLinkem) {
  const std::string net = start_holding({"--hosts", "2"}, "deaf");
  process_->kill(SIGKILL);
  EXPECT_EQ(process_->wait(), 137);
  EXPECT_TRUE(eventually([&] { return left_over().empty(); }));
  EXPECT_TRUE(eventually([&] { return !somebody_has(net); }));
}

TEST_F(LinkemAsRoot, ASysctlHoldsOnEveryHostAndNowhereElse) {
  const std::string before = read_text("/proc/sys/net/ipv4/tcp_sack");
  ASSERT_EQ(exit_code({"--hosts", "2", "--sysctl", "net.ipv4.tcp_sack=0"},
                      {"cat", "/proc/sys/net/ipv4/tcp_sack"}),
            0);
  EXPECT_THAT(process_->out(), AllOf(HasSubstr("[0] 0\n"), HasSubstr("[1] 0\n")));
  EXPECT_EQ(read_text("/proc/sys/net/ipv4/tcp_sack"), before);
  EXPECT_EQ(exit_code({"--hosts", "2", "--sysctl", "net.no.such=0"}, {"true"}), kUsage);
}

TEST_F(Linkem, WithoutRootOneLineSaysWhatIsMissing) {
  if (::geteuid() == 0 && ::access("/usr/bin/setpriv", X_OK) != 0) {
    GTEST_SKIP() << "needs setpriv to give root away";
  }
  Words words{program("linkem"), "run", "--hosts", "2", "--", "true"};
  if (::geteuid() == 0) {
    const Words nobody{"/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"};
    words.insert(words.begin(), nobody.begin(), nobody.end());
  }
  if (start_words(words).wait() == 127) GTEST_SKIP() << "the build folder is closed to others";
  EXPECT_EQ(process_->wait(), kMissing);
  const std::string said = process_->err();
  EXPECT_THAT(said, HasSubstr("linkem: root is needed"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1);
}

TEST_F(Linkem, BadValuesAreRefusedBeforeAnythingStarts) {
  const auto refused = [&](const Words& flags) {
    EXPECT_EQ(exit_code(flags, {"true"}), kUsage) << join(flags, " ");
    return process_->err();
  };
  EXPECT_THAT(refused({"--rat", "1mbit"}), HasSubstr("did you mean '--rate'"));
  EXPECT_THAT(refused({"--rate", "25"}), HasSubstr("1kbit to 1000gbit"));
  EXPECT_THAT(refused({"--loss", "0.5"}), HasSubstr("as in 0.5%"));
  EXPECT_THAT(refused({"--hosts", "0"}), HasSubstr("--hosts"));
  EXPECT_THAT(refused({"--hosts", "251"}), HasSubstr("250"));
  EXPECT_THAT(refused({"--on", "2"}), HasSubstr("--on: no host 2: they are 0 to 1"));
  EXPECT_THAT(refused({"--host", "5:rate=1mbit"}), HasSubstr("no host 5"));
  EXPECT_THAT(refused({"--host", "1:los=1%"}), HasSubstr("did you mean 'loss'"));
  EXPECT_THAT(refused({"--trace", "/no/file"}), HasSubstr("cannot read /no/file"));
  EXPECT_THAT(refused({"--mtu", "100"}), HasSubstr("--mtu"));
  EXPECT_EQ(start_words({program("linkem"), "run"}).wait(), kUsage);
  EXPECT_THAT(process_->err(), HasSubstr("behind --"));
  EXPECT_EQ(start_words({program("linkem"), "rum"}).wait(), kUsage);
  EXPECT_THAT(process_->err(), HasSubstr("did you mean 'run'"));
}

TEST_F(Linkem, HelpShowsTheFlagsAndAnExample) {
  EXPECT_EQ(start_words({program("linkem"), "run", "--help"}).wait(), 0);
  EXPECT_THAT(process_->out(), AllOf(HasSubstr("--rate"), HasSubstr("--outage"),
                                     HasSubstr("linkem run --hosts 4"), HasSubstr("77")));
}

}  // namespace
}  // namespace longhaul::testing
