#include "tests/support/cluster.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/tanh.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>
#include <thread>

#include "longhaul/base/strings.h"
#include "tests/support/temp_dir.h"

extern char** environ;

namespace longhaul::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kRankVariable[] = "LONGHAUL_TEST_RANK";
constexpr char kFolderVariable[] = "LONGHAUL_TEST_FOLDER";

RankContext context_of(Rank rank, int size, c10::intrusive_ptr<c10d::Store> store) {
  RankContext context;
  context.rank = rank;
  context.size = size;
  context.store = std::move(store);
  context.options.rank = rank;
  context.options.size = size;
  context.options.generation = 1;
  context.options.host_address = "127.0.0.1";
  context.options.timeout = std::chrono::seconds(60);
  return context;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// In the child: runs the body, leaves its text in a file, and exits without running other tests.
[[noreturn]] void be_rank(Rank rank, int size, const std::string& folder,
                          const std::function<std::string(RankContext&)>& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::string text;
  int code = 0;
  try {
    RankContext context =
        context_of(rank, size, c10::make_intrusive<c10d::FileStore>(folder + "/store", size));
    text = body(context);
  } catch (const std::exception& error) {
    text = error.what();
    code = 1;
  }
  std::ofstream(str_cat(folder, "/text.", rank)) << text;
  std::_Exit(code);
}

pid_t spawn_rank(Rank rank, const std::string& folder) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string filter = str_cat("--gtest_filter=", test->test_suite_name(), ".", test->name());
  std::vector<std::string> variables{str_cat(kRankVariable, "=", rank),
                                     str_cat(kFolderVariable, "=", folder)};
  std::vector<char*> environment;
  for (char** one = environ; *one != nullptr; ++one) environment.push_back(*one);
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  std::string program = "/proc/self/exe";
  std::string arguments = filter;
  char* argv[] = {program.data(), arguments.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int failed =
      posix_spawn(&pid, program.c_str(), &actions, nullptr, argv, environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) throw std::runtime_error("posix_spawn failed");
  return pid;
}

void take_status(int status, ProcessReport& report) {
  if (WIFEXITED(status)) {
    report.exit_code = WEXITSTATUS(status);
  } else if (WIFSIGNALED(status)) {
    report.signal = WTERMSIG(status);
  }
}

// MKL's vector functions, which libtorch's tanh and exp call, choose their variant in the first
// call of a process. Where two threads make it at once one of them may compute with a coarser one:
// in 1.3 % of processes of libtorch alone a tanh was off by 849 units in the last place. Ranks of
// programs are processes; here they are threads.
void let_vector_math_choose() {
  static const at::Tensor chosen = at::tanh(at::ones({64}));
}

}  // namespace

std::string RankReport::what() const {
  if (!error) return "";
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  }
}

const CollectiveError* RankReport::collective_error() const {
  if (error) {
    try {
      std::rethrow_exception(error);
    } catch (const CollectiveError& e) {
      return &e;  // lives as long as `error`, which refers to the same object
    } catch (...) {
    }
  }
  ADD_FAILURE() << "wanted a CollectiveError, got: " << (error ? what() : "a normal end");
  return nullptr;
}

std::vector<RankReport> run_ranks(int size, const std::function<void(RankContext&)>& body,
                                  std::chrono::seconds limit) {
  let_vector_math_choose();
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<RankReport> reports(static_cast<size_t>(size));
  std::mutex mutex;
  std::condition_variable changed;
  std::set<Rank> running;
  for (Rank rank = 0; rank < size; ++rank) running.insert(rank);
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(size));
  for (Rank rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        RankContext context = context_of(rank, size, store);
        body(context);
      } catch (...) {
        reports[static_cast<size_t>(rank)].error = std::current_exception();
      }
      const std::lock_guard<std::mutex> lock(mutex);
      running.erase(rank);
      changed.notify_all();
    });
  }
  {
    std::unique_lock<std::mutex> lock(mutex);
    if (!changed.wait_for(lock, limit, [&] { return running.empty(); })) {
      for (const Rank rank : running) std::fprintf(stderr, "rank %d is still running\n", rank);
      std::fflush(stderr);
      std::_Exit(99);
    }
  }
  for (std::thread& thread : threads) thread.join();
  return reports;
}

void expect_all_fine(const std::vector<RankReport>& reports) {
  for (size_t rank = 0; rank < reports.size(); ++rank) {
    EXPECT_EQ(reports[rank].what(), "") << "on rank " << rank;
  }
}

std::vector<ProcessReport> run_processes(int size,
                                         const std::function<std::string(RankContext&)>& body,
                                         const std::set<Rank>& not_awaited,
                                         std::chrono::seconds limit) {
  if (const char* rank = std::getenv(kRankVariable)) {
    be_rank(std::atoi(rank), size, std::getenv(kFolderVariable), body);
  }
  const TempDir folder;
  const Clock::time_point start = Clock::now();
  std::vector<ProcessReport> reports(static_cast<size_t>(size));
  std::vector<pid_t> pids;
  pids.reserve(static_cast<size_t>(size));
  for (Rank rank = 0; rank < size; ++rank) {
    pids.push_back(spawn_rank(rank, folder.path().string()));
  }
  size_t awaited = static_cast<size_t>(size) - not_awaited.size();
  while (awaited > 0 && Clock::now() - start < limit) {
    for (Rank rank = 0; rank < size; ++rank) {
      ProcessReport& report = reports[static_cast<size_t>(rank)];
      int status = 0;
      if (report.exited || waitpid(pids[static_cast<size_t>(rank)], &status, WNOHANG) <= 0)
        continue;
      report.exited = true;
      report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
      take_status(status, report);
      if (not_awaited.count(rank) == 0) --awaited;
    }
    usleep(10'000);  // between looks at the children
  }
  for (Rank rank = 0; rank < size; ++rank) {
    ProcessReport& report = reports[static_cast<size_t>(rank)];
    if (!report.exited) {
      kill(pids[static_cast<size_t>(rank)], SIGKILL);
      waitpid(pids[static_cast<size_t>(rank)], nullptr, 0);
    }
    report.text = read_file(str_cat(folder.path().string(), "/text.", rank));
  }
  return reports;
}

}  // namespace longhaul::testing
