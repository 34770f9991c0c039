// A rank for tests: does what its arguments say, one after the other, each "[WHO/]VERB[=TEXT]".
// WHO is a rank, or "!" and a rank for all the others. Anything that fails ends it with code 99.
//
//   join               calls the agent's Join
//   barrier=KEY        waits until every rank has come to KEY
//   report=STEP/TOTAL  progress
//   fault=PEER         reports that PEER was lost
//   leave              says that its work is done
//   out=TEXT err=TEXT  prints TEXT and a line end; part=TEXT prints no line end
//   odd                prints a line that is no UTF-8 to stderr
//   touch=FILE         makes FILE.RANK, with its pid inside
//   await=FILE         waits until FILE is there
//   exit=CODE          ends at once
//   once=FILE          the first time, makes FILE.RANK and ends with 3; after that, nothing
//   signal=NUMBER      sends itself that signal
//   nap                sleeps for ever
//   deaf               ignores SIGTERM and SIGINT
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "base/crash_handler.h"
#include "longhaul/agent/client/agent_client.h"

namespace {

using namespace longhaul;

constexpr milliseconds kStoreLimit{100'000};

class RankProgram {
 public:
  int run(int count, char** arguments) {
    for (int i = 1; i < count; ++i) step(arguments[i]);
    return 0;
  }

 private:
  void step(std::string text) {
    if (const size_t slash = text.find('/'); slash < text.find('=')) {
      const bool all_but = text[0] == '!';
      const int who = std::stoi(text.substr(all_but ? 1 : 0));
      if ((who == rank_) == all_but) return;
      text = text.substr(slash + 1);
    }
    const size_t equals = text.find('=');
    const std::string verb = text.substr(0, equals);
    verbs_.at(verb)(equals == std::string::npos ? "" : text.substr(equals + 1));
  }

  template <typename Outcome>
  void need(const Outcome& outcome, const std::string& what) {
    if (outcome) return;
    std::fprintf(stderr, "%s: %s\n", what.c_str(), outcome.failure().message.c_str());
    std::exit(99);
  }

  AgentClient& agent() {
    if (!agent_) agent_ = AgentClient::from_environment().value_or_throw();
    return *agent_;
  }

  void barrier(const std::string& key) {
    const Result<int64_t> count = agent().store_add("count/" + key, 1);
    need(count, "barrier " + key);
    if (*count == size_) need(agent().store_set("open/" + key, "1"), "barrier " + key);
    need(agent().store_wait({"open/" + key}, kStoreLimit), "barrier " + key);
  }

  void report(const std::string& text) {
    RankProgress progress;
    progress.step = std::stoll(text);
    progress.total_steps = std::stoll(text.substr(text.find('/') + 1));
    progress.loss = 2.5;
    progress.has_loss = true;
    progress.tokens_per_second = 1000;
    progress.communication_share = 0.25;
    progress.bytes_raw = 3'000'000;
    progress.bytes_sent = 2'000'000;
    progress.codec = "zstd";
    need(agent().report(progress), "report");
  }

  void touch(const std::string& file) {
    const std::string path = file + "." + std::to_string(rank_);
    std::ofstream(path + ".new") << ::getpid() << "\n";
    std::filesystem::rename(path + ".new", path);
  }

  void once(const std::string& file) {
    if (std::filesystem::exists(file + "." + std::to_string(rank_))) return;
    touch(file);
    ::_exit(3);
  }

  static void await(const std::string& file) {
    while (!std::filesystem::exists(file)) std::this_thread::sleep_for(milliseconds(10));
  }

  static void print(std::FILE* stream, const std::string& text) {
    std::fputs(text.c_str(), stream);
    std::fflush(stream);
  }

  const int rank_ = std::atoi(std::getenv("RANK"));
  const int size_ = std::atoi(std::getenv("WORLD_SIZE"));
  std::unique_ptr<AgentClient> agent_;
  const std::map<std::string, std::function<void(const std::string&)>> verbs_ = {
      {"join", [this](const std::string&) { need(agent().join(), "join"); }},
      {"barrier", [this](const std::string& key) { barrier(key); }},
      {"report", [this](const std::string& text) { report(text); }},
      {"fault",
       [this](const std::string& peer) {
         need(agent().report_fault(
                  {ErrorKind::kPeerLost, "all-reduce: lost rank " + peer, std::stoi(peer)}),
              "fault");
       }},
      {"leave", [this](const std::string&) { need(agent().leave(), "leave"); }},
      {"out", [](const std::string& text) { print(stdout, text + "\n"); }},
      {"err", [](const std::string& text) { print(stderr, text + "\n"); }},
      {"part", [](const std::string& text) { print(stdout, text); }},
      {"odd", [](const std::string&) { print(stderr, "odd \xff\xfe bytes\n"); }},
      {"touch", [this](const std::string& file) { touch(file); }},
      {"await", [](const std::string& file) { await(file); }},
      {"exit", [](const std::string& code) { ::_exit(std::stoi(code)); }},
      {"once", [this](const std::string& file) { once(file); }},
      {"signal", [](const std::string& number) { ::raise(std::stoi(number)); }},
      {"nap",
       [](const std::string&) {
         for (;;) ::pause();
       }},
      {"deaf",
       [](const std::string&) {
         (void)::signal(SIGTERM, SIG_IGN);
         (void)::signal(SIGINT, SIG_IGN);
       }},
  };
};

}  // namespace

int main(int argc, char** argv) {
  longhaul::install_crash_handler();
  return RankProgram().run(argc, argv);
}
