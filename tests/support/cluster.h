// A world in a test. run_ranks() runs one body on n threads that meet in one store; run_processes()
// runs it in n processes, for bodies that die, stop or crash. Both end within their limit.
//
//   expect_all_fine(run_ranks(4, [](RankContext& context) {
//     auto communicator = context.connect();
//     ...
//   }));
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "longhaul/collectives/communicator.h"

namespace longhaul::testing {

// What a body knows of its place.
struct RankContext {
  Rank rank = 0;
  int size = 1;
  c10::intrusive_ptr<c10d::Store> store;
  CommunicatorOptions options;  // filled in; a body may change it before connect()

  std::shared_ptr<Communicator> connect() { return Communicator::create(store, options); }
};

// How one rank ended.
struct RankReport {
  std::exception_ptr error;  // null: it returned

  // "" when it returned.
  std::string what() const;
  // The CollectiveError it ended with; fails the test and returns null when it ended otherwise.
  const CollectiveError* collective_error() const;
};

// A body that is still running after `limit` ends the test program, with a message that names its
// rank: threads cannot be stopped.
std::vector<RankReport> run_ranks(int size, const std::function<void(RankContext&)>& body,
                                  std::chrono::seconds limit = std::chrono::seconds(120));
void expect_all_fine(const std::vector<RankReport>& reports);

struct ProcessReport {
  bool exited = false;  // by itself, in time; else it was killed at the end
  int exit_code = -1;
  int signal = 0;      // it died of
  std::string text;    // what its body returned; the exception's text if it threw (exit code 1)
  double seconds = 0;  // until it ended
};

// Starts this test program again, n times, with the running test alone, where this call runs `body`
// for one rank and exits. So: one call in a test, and everything before it happens in every process
// too. Ranks in `not_awaited` (those that stop themselves) are killed when all others have ended.
std::vector<ProcessReport> run_processes(int size,
                                         const std::function<std::string(RankContext&)>& body,
                                         const std::set<Rank>& not_awaited = {},
                                         std::chrono::seconds limit = std::chrono::seconds(120));

}  // namespace longhaul::testing
