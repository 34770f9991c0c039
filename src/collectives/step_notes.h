// Whether all ranks are at the same place of their programs. Before ranks work together in a step,
// each says what it is about to do: its n-th note must be the same as every other rank's. Notes
// travel on the PeerMonitor's connections, beside the collectives and without touching their order.
// In a backward pass they travel while it computes and reduces: who waits for its result then waits
// for notes that are there already. Before a broadcast they are waited for: half a round trip.
//
// Without them a rank that skipped a backward pass would have its next gradients added to the
// others' old ones, or wait in a broadcast for a rank that waits in an all-reduce.
//
// Thread safety: all methods from any thread; post() from one at a time, in the order that the
// ranks share.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "longhaul/agent/ids.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

struct StepNote {
  enum class Phase : uint8_t {
    kForward = 1,   // broadcasts buffers or rebuilds buckets before the forward pass of `step`
    kBackward = 2,  // reduces the gradients of `step`
    kRehook = 3,    // hooks a changed model anew before the forward pass of `step`
    kShadow = 4,    // has no more inputs and goes along with whatever the others do
  };
  Phase phase = Phase::kBackward;
  uint32_t wrapper = 0;  // which DistributedDataParallel of this world, by order of construction
  uint64_t step = 0;
  uint64_t layout = 0;   // of what is exchanged or left out, as a hash: must agree
  uint64_t changes = 0;  // made to parameters since the last note, as a hash: see await()
  std::string why;       // for people; need not agree
};

std::string encode(const StepNote& note);
std::optional<StepNote> decode_note(std::string_view text);

// By rank. What is wrong, in words that are the same on every rank: "ranks are at different steps:
// rank 1 at 12, rank 0 at 13"; nullopt when the notes agree.
std::optional<std::string> explain_difference(std::span<const StepNote> notes);
// The rank to name for it: the first outside the majority, else the one furthest ahead.
Rank odd_one_out(std::span<const StepNote> notes);

class StepNotes {
 public:
  // Takes a note to all other ranks.
  using Sender = std::function<void(const std::string& text)>;
  // Told once, when notes differ; on whatever thread found out.
  using Complaint = std::function<void(const std::string& what, Rank culprit)>;

  StepNotes(Rank self, int size);
  // Before the first note.
  void connect(Sender sender, Complaint complaint);

  // Says what this rank is about to do; returns the number of the note.
  uint64_t post(const StepNote& note);
  // A note of another rank came. False when it makes no sense.
  bool hear(Rank rank, std::string_view text);
  // This world has failed: nobody needs to wait any more.
  void give_up();

  enum class Outcome {
    kAgreed,
    kChangesDiffer,  // all agree on what they do, but not in `changes`: values may have drifted
    kGivenUp,        // notes differ, or give_up()
    kTimeOut,
  };
  // Waits until every rank's note of this number has come. Numbers must not go back.
  Outcome await(uint64_t number, Instant deadline);
  // Waits until everything that this rank said has been compared, or it is known to have failed.
  void settle(Instant deadline);

 private:
  // Compares what is complete; returns a complaint to make, once the lock is free.
  std::optional<std::pair<std::string, Rank>> compare() LONGHAUL_REQUIRES(mutex_);
  void complain(const std::optional<std::pair<std::string, Rank>>& difference);

  const size_t self_;
  Sender sender_;
  Complaint complaint_;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<std::deque<StepNote>> notes_
      LONGHAUL_GUARDED_BY(mutex_);  // by rank, not compared yet
  uint64_t posted_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  uint64_t compared_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  std::set<uint64_t> changes_differ_ LONGHAUL_GUARDED_BY(mutex_);
  bool differ_ LONGHAUL_GUARDED_BY(mutex_) = false;    // nothing is compared any more
  bool given_up_ LONGHAUL_GUARDED_BY(mutex_) = false;  // and everybody who matters knows
};

}  // namespace longhaul
