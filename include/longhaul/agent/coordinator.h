// What a trainer rank asks of whoever launched it: its place in the world, the rendezvous store, a
// listener for its progress. The worker's agent socket is one implementation
// (longhaul/agent/client/agent_client.h); tests have others. Elastic training will add generations
// that change while the job runs.
//
// Thread safety: implementations may be called from any thread, also while a store_wait() of
// another thread is blocking.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longhaul/agent/ids.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/result.h"

namespace longhaul {

// A rank's place in its world.
struct Placement {
  JobId job_id;
  Generation generation = 0;
  Rank rank = 0;
  int world_size = 1;
  int local_rank = 0;        // index among the ranks of this job on this host; picks the GPU
  int local_world_size = 1;  // ranks of this job on this host
  std::string host_address;  // address under which the other ranks reach this host; may be empty
};

// What a rank tells about its work, about once a second. Also its sign of life.
struct RankProgress {
  int64_t step = 0;
  int64_t total_steps = 0;  // 0: unknown
  double loss = 0;          // meaningful when has_loss
  bool has_loss = false;
  double tokens_per_second = 0;    // of this rank's own input; 0: unknown
  double communication_share = 0;  // of the step time, 0..1, waiting for gradients not yet reduced
  uint64_t bytes_raw = 0;          // gradient bytes that would have been sent without a codec
  uint64_t bytes_sent = 0;         // gradient bytes sent
  std::string codec;
  uint64_t collective_sequence = 0;  // operations begun; who is behind, hangs
  std::string operation;             // the one that is running, "" between operations
  // When it was asked for: what the thread that trains is doing, the innermost frame first.
  std::vector<std::string> stack;
};

// What a report is answered with.
struct ReportAnswer {
  bool stop_requested = false;  // at the rank's next convenience
  bool stack_wanted = false;    // with its next report
};

// Said by a rank that is about to stop because something failed: the evidence of a victim or a
// culprit.
struct RankFault {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;
  // The rank whose absence or bytes made the operation fail; -1 when the fault is this rank's own
  // or unknown.
  Rank peer = -1;
};

class Coordinator {
 public:
  virtual ~Coordinator() = default;

  // Announces this process. Errors: kUnavailable (nobody listens), kStale (this generation is
  // over).
  virtual Result<Placement> join() = 0;

  // The rendezvous store of this job and generation; keys and values are bytes.
  virtual Result<void> store_set(const std::string& key, const std::string& value) = 0;
  // Waits until `key` is there. Errors: kDeadline, kPeerLost (the job is failing: who, and why).
  virtual Result<std::string> store_get(const std::string& key, milliseconds timeout) = 0;
  virtual Result<void> store_wait(const std::vector<std::string>& keys, milliseconds timeout) = 0;
  // Adds to a decimal counter that starts at 0; returns the new value.
  virtual Result<int64_t> store_add(const std::string& key, int64_t amount) = 0;
  virtual Result<bool> store_check(const std::vector<std::string>& keys) = 0;
  virtual Result<bool> store_delete(const std::string& key) = 0;
  // Sets `key` to `desired` when it holds `expected` (or is missing and `expected` is empty);
  // returns what it holds afterwards. c10d's Store::compareSet.
  virtual Result<std::string> store_compare_set(const std::string& key, const std::string& expected,
                                                const std::string& desired) = 0;

  virtual Result<ReportAnswer> report(const RankProgress& progress) = 0;
  virtual Result<void> report_fault(const RankFault& fault) = 0;
  // The rank has done its work and will exit: its absence from now on is no failure.
  virtual Result<void> leave() = 0;
};

}  // namespace longhaul
