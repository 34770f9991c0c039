// A rank that trains on nothing: takes the ranges of a dataset one by one and writes down in
// journal.RANK what it was granted and what it was told to count, each line at once.
//
//   DATASET SIZE SHARD PASSES [SEED]
//
//   pid 4711
//   grant PASS FIRST COUNT TASK EPOCH
//   commit PASS FIRST COUNT TASK EPOCH
//   stale PASS FIRST COUNT TASK EPOCH
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "longhaul/agent/client/shard_client.h"
#include "longhaul/base/strings.h"

namespace {

using namespace longhaul;

void write_down(const std::string& line) {
  static const int journal =
      ::open(str_cat("journal.", std::getenv("RANK")).c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const std::string text = line + "\n";
  if (::write(journal, text.data(), text.size()) != static_cast<ssize_t>(text.size())) ::_exit(98);
}

void write_down(const char* what, const ShardGrant& grant) {
  const IndexRange& range = grant.shard.range;
  write_down(str_cat(what, " ", grant.shard.pass, " ", range.first, " ", range.count, " ",
                     grant.lease.task, " ", grant.lease.epoch));
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const ShardPlan plan{
        std::stoull(argv[2]), std::stoull(argv[3]), static_cast<uint32_t>(std::stoul(argv[4])),
        argc > 5 ? std::optional<uint64_t>(std::stoull(argv[5])) : std::nullopt, true};
    const auto agent = AgentClient::from_environment().value_or_throw();
    (void)agent->join().value_or_throw();
    write_down(str_cat("pid ", ::getpid()));
    ShardClient shards(*agent, argv[1], plan);
    while (const std::optional<ShardGrant> grant = shards.next().value_or_throw()) {
      write_down("grant", *grant);
      std::this_thread::sleep_for(milliseconds(5));
      const Result<void> committed = shards.commit(*grant);
      if (!committed && committed.failure().kind != ErrorKind::kStale) committed.value_or_throw();
      write_down(committed ? "commit" : "stale", *grant);
    }
    if (!shards.progress().value_or_throw().over) return 97;
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 99;
  }
}
