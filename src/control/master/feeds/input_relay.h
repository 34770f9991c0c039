// Bytes for the stdin of rank 0 on their way: a client's call waits here until the rank's worker
// says how much it has. Nothing else is kept: a call whose worker does not answer is told that
// nothing was taken, and is made again.
//
// Thread safety: none; the owner thread's.
#pragma once

#include <functional>
#include <map>

#include "cluster/cluster_messages.h"
#include "longhaul/base/clock.h"
#include "longhaul/v1/job_service.pb.h"
#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

class InputRelay {
 public:
  using Answer = std::function<void(const v1::WriteInputReply&)>;
  // How long a worker may take to answer.
  static constexpr milliseconds kPatience{1'000};
  // The most that one call brings.
  static constexpr size_t kMostBytes = size_t{256} << 10;

  // `offset`: where its bytes begin, which is how much counts as taken when nobody answers.
  void wait(const LaunchId& launch, uint64_t offset, Answer answer, Instant now);
  void taken(const LaunchId& launch, const v1::InputTaken& taken);
  // Tells those who have waited too long.
  void tick(Instant now);
  // Tells all of them.
  void close() { tick(Instant::max()); }

 private:
  struct Waiting {
    uint64_t offset = 0;
    Answer answer;
    Instant since;
  };
  std::multimap<LaunchId, Waiting> waiting_;
};

}  // namespace longhaul
