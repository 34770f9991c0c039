// What the jobs of a cluster share, and all that a job may touch beside itself: the workers and
// what of each is in use, the numbers that are given once, and the effects of what happens. The
// cluster's own (cluster_state.h); its jobs have a reference.
//
// Thread safety: none.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "cluster/arrays/lease_epochs.h"
#include "cluster/cluster_messages.h"
#include "cluster/cluster_options.h"
#include "cluster/scheduling/worker_use.h"
#include "cluster/workers/worker_table.h"
#include "longhaul/base/strings.h"

namespace longhaul {

// Higher priorities first, then in order of submission.
using QueuePlace = std::pair<int, uint64_t>;

class Site {
 public:
  explicit Site(ClusterOptions given) : options(std::move(given)), workers(options.workers) {}

  // Nothing is sent to a worker whose stream is broken: what it missed it is told when it is back.
  void send(const WorkerId& worker, ToWorker message) {
    const WorkerRecord* record = workers.find(worker);
    if (record == nullptr || !record->session) return;
    effects.emplace_back(SendEffect{*record->session, std::move(message)});
  }
  // To the stream on which each call came; if that is gone by now the answer is dropped, and the
  // call comes again on the worker's next stream.
  void answer(const std::vector<StoreReply>& replies) {
    for (const StoreReply& reply : replies) {
      effects.emplace_back(
          SendEffect{reply.caller.session, StoreAnswerMessage{reply.caller.call_id, reply.result}});
    }
  }
  void row_changed(std::string_view noun, const std::string& key) {
    effects.emplace_back(RowChangedEffect{noun, key});
  }
  // For the journal.
  void happened(EventKind kind, const WorkerId& worker, std::string text) {
    effects.emplace_back(JournalEffect{{kind, "", worker, 0, std::nullopt, std::move(text)}});
  }
  template <typename... Args>
  void note(const Args&... args) {
    effects.emplace_back(NoteEffect{str_cat(args...)});
  }
  // The next of everything that is evidence: two things in one millisecond have a first and a
  // second.
  uint64_t next_order() { return ++order; }

  const ClusterOptions options;
  WorkerTable workers;
  std::unordered_map<WorkerId, WorkerUse> use;
  LeaseEpochs epochs{1};  // of all jobs: an epoch names one grant in the whole cluster
  uint64_t life = 0;      // of the state (ClusterMemory::life)
  uint64_t order = 0;
  std::vector<Effect> effects;
  // Of the gang that has a reservation, as the last plan gave it. Until the next plan, arrays
  // behind it take no slot that becomes free.
  std::optional<QueuePlace> reserved;
  std::optional<Instant> plan_at;  // who starts is to be looked at then
};

}  // namespace longhaul
