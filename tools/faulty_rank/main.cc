// longhaul-faulty-rank: one rank of a small job whose ranks depend on each other as a training
// job's do, and which fails on purpose. Every step passes a message round a ring of TCP
// connections, n - 1 times, so that a rank that is gone or late stops all others; each of them says
// to its worker whom it lost. Like Gloo's they often blame a neighbour that lives. No torch:
// sixteen of them start in a second on two cores.
//
//   longhaul-faulty-rank STEPS DEADLINE_MS [FAULT RANK STEP JOURNAL [ARGUMENT]]
//
// At step STEP rank RANK writes "FAULT PID UNIX_SECONDS" to the file JOURNAL and then
//   exit       ends with code 7                  throw      throws and nobody catches it
//   fault      reports an exception of its own   memory     asks for more memory than there is
//   segv, abort, fpe   crashes                   leave      exits with 0, its work undone
//   hang       does no more, but lives           execute    becomes the program ARGUMENT
//   python     becomes a Python that raises      hog        takes memory until it is stopped
//   absent     (before step 0) never joins       mark       nothing: somebody else does it
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/crash_handler.h"
#include "base/thread.h"
#include "longhaul/agent/client/agent_client.h"
#include "longhaul/base/error.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"
#include "wire/socket.h"

namespace longhaul {
namespace {

constexpr milliseconds kReportInterval{250};
constexpr milliseconds kStoreLimit{60'000};
constexpr milliseconds kStepTime{5};

struct Plan {
  int64_t steps = 0;
  milliseconds deadline{0};
  std::string fault;
  Rank rank = -1;
  int64_t step = 0;
  std::string journal;
  std::string argument;
};

// --- The faults --------------------------------------------------------------------------------

[[gnu::noinline]] void crash_by_null_pointer() {
  volatile int* nowhere = nullptr;
  *nowhere = 1;
}

[[gnu::noinline]] void crash_by_division() {
  const volatile int zero = 0;
  const volatile int result = 100 / zero;  // 1 / zero needs no division
  (void)result;
}

[[noreturn]] void hang() {
  for (;;) ::pause();
}

[[noreturn]] void take_memory() {
  std::vector<std::unique_ptr<std::vector<char>>> taken;
  for (;;) taken.push_back(std::make_unique<std::vector<char>>(16 << 20, 'x'));
}

[[noreturn]] void become(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  std::perror(argv[0]);
  ::_exit(127);
}

void commit(const Plan& plan) {
  const std::map<std::string, std::function<void()>> faults = {
      {"exit",
       [] {
         std::fputs("cannot read shard 12\n", stderr);
         ::_exit(7);
       }},
      {"throw", [] { throw std::runtime_error("no shard 12"); }},
      {"fault", [] { throw Error(ErrorKind::kInvalid, "shape [3] for [4]"); }},
      {"memory",
       [] {
         const volatile size_t bytes = size_t{1} << 60;
         std::vector<char> huge(bytes);
       }},
      {"segv", crash_by_null_pointer},
      {"fpe", crash_by_division},
      {"abort", [] { std::abort(); }},
      {"leave", [] { ::_exit(0); }},
      {"hang", hang},
      {"absent", hang},
      {"hog", take_memory},
      {"mark", [] {}},
      {"execute", [&] { become({plan.argument}); }},
      {"python",
       [] { become({"python3", "-c", "def load():\n raise ValueError('bad shard 12')\nload()"}); }},
  };
  timeval now{};
  ::gettimeofday(&now, nullptr);
  // All of it at once: somebody waits for the file.
  std::ofstream(plan.journal + ".new")
      << plan.fault << ' ' << ::getpid() << ' ' << now.tv_sec << '.' << std::setw(6)
      << std::setfill('0') << now.tv_usec << "\n";
  std::filesystem::rename(plan.journal + ".new", plan.journal);
  faults.at(plan.fault)();
}

// --- The job -----------------------------------------------------------------------------------

// As runtime/progress_reporter.h does.
class Reporter {
 public:
  explicit Reporter(AgentClient& agent) : agent_(agent), thread_("report", [this] { run(); }) {}
  ~Reporter() {
    {
      MutexLock lock(mutex_);
      closed_ = true;
      changed_.notify_all();
    }
    thread_.join();
  }

  void update(int64_t step, const char* operation) {
    MutexLock lock(mutex_);
    latest_.step = step;
    latest_.operation = operation;
    if (*operation != '\0') ++latest_.collective_sequence;
  }

 private:
  void run() {
    for (bool closed = false; !closed;) {
      RankProgress progress;
      {
        MutexLock lock(mutex_);
        progress = latest_;
      }
      (void)agent_.report(progress);
      const Instant next = std::chrono::steady_clock::now() + kReportInterval;
      MutexLock lock(mutex_);
      while (!closed_ && changed_.wait_until(mutex_, next)) {
      }
      closed = closed_;
    }
  }

  AgentClient& agent_;
  Mutex mutex_;
  CondVar changed_;
  RankProgress latest_ LONGHAUL_GUARDED_BY(mutex_);
  bool closed_ LONGHAUL_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

// What the library throws as CollectiveError.
class PeerError : public Error {
 public:
  PeerError(const Failure& failure, Rank peer) : Error(failure), peer_(peer) {}
  Rank peer() const { return peer_; }

 private:
  Rank peer_;
};

class Ring {
 public:
  Ring(AgentClient& agent, Rank rank, int size, milliseconds deadline)
      : before_((rank + size - 1) % size), after_((rank + 1) % size), deadline_(deadline) {
    const UniqueFd listener = listen_tcp("127.0.0.1", 0).value_or_throw();
    const uint16_t port = local_port(listener.get()).value_or_throw();
    agent.store_set(key(rank), std::to_string(port)).value_or_throw();
    const std::string next = agent.store_get(key(after_), kStoreLimit).value_or_throw();
    send_ = connect_tcp("127.0.0.1", static_cast<uint16_t>(std::stoi(next)), kStoreLimit)
                .value_or_throw();
    receive_ =
        accept_tcp(listener.get(), std::chrono::steady_clock::now() + kStoreLimit).value_or_throw();
  }

  // One message to the rank after, one from the rank before. Throws PeerError.
  void pass(int64_t step) {
    const Instant until = std::chrono::steady_clock::now() + deadline_;
    uint8_t message[64] = {};
    check(write_all(send_.get(), message, until), step, after_);
    check(read_exactly(receive_.get(), message, until), step, before_);
  }

 private:
  static std::string key(Rank rank) { return str_cat("ring/", rank); }

  static void check(const Result<void>& done, int64_t step, Rank peer) {
    if (done) return;
    throw PeerError({done.failure().kind, str_cat("all-reduce of step ", step, ": rank ", peer,
                                                  ": ", done.failure().message)},
                    peer);
  }

  const Rank before_;
  const Rank after_;
  const milliseconds deadline_;
  UniqueFd send_;
  UniqueFd receive_;
};

void train(AgentClient& agent, const Plan& plan, Rank rank, int size) {
  const bool faulty = plan.rank == rank;
  if (faulty && plan.fault == "absent") commit(plan);
  agent.join().value_or_throw();
  Ring ring(agent, rank, size, plan.deadline);
  Reporter reporter(agent);
  for (int64_t step = 0; step < plan.steps; ++step) {
    reporter.update(step, "");
    std::this_thread::sleep_for(kStepTime);
    if (faulty && step == plan.step) commit(plan);
    reporter.update(step, "all-reduce");
    for (int hop = 1; hop < size; ++hop) ring.pass(step);
  }
  agent.leave().value_or_throw();
}

// An Error is told to the worker, as the library does (runtime/last_words.h); others are not ours.
int run(const Plan& plan) {
  install_crash_handler();
  const Rank rank = std::atoi(std::getenv("RANK"));
  const std::unique_ptr<AgentClient> agent = AgentClient::from_environment().value_or_throw();
  RankFault fault;
  try {
    train(*agent, plan, rank, std::atoi(std::getenv("WORLD_SIZE")));
    return 0;
  } catch (const PeerError& error) {
    fault = {error.kind(), error.what(), error.peer()};
  } catch (const Error& error) {
    fault = {error.kind(), error.what(), -1};
  }
  std::fprintf(stderr, "rank %d: %s\n", rank, fault.message.c_str());
  (void)agent->report_fault(fault);
  std::fflush(nullptr);
  ::_exit(1);
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  if (argc != 3 && argc != 7 && argc != 8) {
    std::fputs(
        "usage: longhaul-faulty-rank STEPS DEADLINE_MS [FAULT RANK STEP JOURNAL [ARGUMENT]]\n",
        stderr);
    return 64;
  }
  longhaul::Plan plan;
  plan.steps = std::atoll(argv[1]);
  plan.deadline = longhaul::milliseconds(std::atoll(argv[2]));
  if (argc > 3) {
    plan.fault = argv[3];
    plan.rank = std::atoi(argv[4]);
    plan.step = std::atoll(argv[5]);
    plan.journal = argv[6];
  }
  if (argc > 7) plan.argument = argv[7];
  return longhaul::run(plan);
}
