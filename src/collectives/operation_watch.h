// What all process groups of one Communicator share: the number of the step and bucket, the
// operations that are under way, and the first failure, which ends them all. A fault that the
// PeerMonitor reports aborts what is pending instead of letting it run into its time-out.
//
// Thread safety: all methods from any thread.
#pragma once

#include <torch/csrc/distributed/c10d/Work.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "collectives/link_meter.h"
#include "collectives/peer_monitor.h"
#include "collectives/step_notes.h"
#include "longhaul/base/mutex.h"
#include "longhaul/collectives/communicator.h"
#include "longhaul/collectives/traffic.h"
#include "wire/frame.h"

namespace longhaul {

// An operation that can be ended from outside.
class AbortableWork : public c10d::Work {
 public:
  using c10d::Work::Work;
  // Called as soon as the world is known to have failed, and again later: wake whoever can be woken
  // safely. On the monitor's thread, without a lock of OperationWatch.
  virtual void wake() {}
  // Called, likewise, when the operation did not end by itself soon after: complete it with an
  // error, although the backend may still be at it.
  virtual void give_up() {}
};

// The connections of one process group.
class GroupLinks {
 public:
  virtual ~GroupLinks() = default;
  // Makes everything that waits on these connections fail at once. May be called more than once.
  virtual void sever() = 0;
  // Then all operations end within milliseconds, also those in the middle of a message.
  virtual bool ends_all() const { return false; }
  // What the kernel has counted on them so far; empty where they cannot be told from others.
  virtual std::vector<ConnectionReading> readings() const = 0;
};

class OperationWatch : public std::enable_shared_from_this<OperationWatch> {
 public:
  explicit OperationWatch(const CommunicatorOptions& options)
      : options_(options), notes_(options.rank, options.size) {}

  const CommunicatorOptions& options() const { return options_; }
  Traffic& traffic() { return traffic_; }
  StepNotes& notes() { return notes_; }
  // Numbers the models that are wrapped in this world, from 0 on.
  uint32_t next_wrapper() { return wrappers_++; }

  // Listens for other monitors; connect() of the monitor is the caller's.
  Result<std::shared_ptr<PeerMonitor>> start_monitor(const PeerMonitor::Options& options);
  std::shared_ptr<PeerMonitor> monitor() const;
  // Says goodbye to the other ranks. Operations may still fail afterwards, without a culprit.
  void leave();

  void begin_step(uint64_t step);
  // "all-reduce of 25 MB (bucket 3 of step 17)"; `is_bucket` counts it.
  std::string describe(const char* name, uint64_t bytes, bool is_bucket);

  // Waits for every rank's note of this number. Returns whether their `changes` agree too. Errors:
  // CollectiveError: notes differ, this world fails, or time ran out.
  bool await_notes(uint64_t number, const std::string& operation);

  // Before a frame that is not the expected one is called corrupt: throws when notes tell that its
  // sender is elsewhere in its program, or another failure is known.
  void settle_notes(const std::string& operation);

  // Throws the first failure, in the name of `operation`, if there was one.
  void check(const std::string& operation) const;
  // The CollectiveError for an exception of the backend. Waits a moment for the monitor to learn
  // who is gone; remembers the failure and tells the other ranks.
  std::exception_ptr translate(const std::exception_ptr& error, const std::string& operation);
  // As translate(), for a failure found by ourselves (a corrupt payload, say).
  void fail(const CollectiveError& error);
  bool failed() const;

  // A test's hand on the wire: changes frames of CompressedAllreduce before they are sent. Set
  // before the first operation.
  using FrameFilter = std::function<void(const FrameLabel& label, MutableByteSpan frame)>;
  void set_frame_filter(FrameFilter filter) { frame_filter_ = std::move(filter); }
  const FrameFilter& frame_filter() const { return frame_filter_; }

  // A work knows its id before it is added: from then on any thread may end it, which removes it.
  uint64_t next_work() { return works_begun_++; }
  void add(uint64_t id, const c10::intrusive_ptr<AbortableWork>& work);
  void remove(uint64_t id);
  void add_links(std::weak_ptr<GroupLinks> links);
  // Of all connections of all groups.
  std::vector<ConnectionReading> read_links() const;

 private:
  void on_fault(const PeerFault& fault);
  std::vector<c10::intrusive_ptr<AbortableWork>> pending() const;

  void throw_failure(const std::string& prefix) const;
  void on_difference(const std::string& what, Rank culprit);

  const CommunicatorOptions options_;
  Traffic traffic_;
  StepNotes notes_;
  std::atomic<uint32_t> wrappers_ = 0;
  std::atomic<uint64_t> works_begun_ = 0;
  FrameFilter frame_filter_;

  mutable Mutex mutex_;
  std::shared_ptr<PeerMonitor> monitor_ LONGHAUL_GUARDED_BY(mutex_);
  uint64_t step_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  bool in_step_ LONGHAUL_GUARDED_BY(mutex_) = false;
  uint32_t next_bucket_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  // Weak references: whoever started a work owns it, and it removes itself when it ends.
  std::unordered_map<uint64_t, c10::weak_intrusive_ptr<AbortableWork>> works_
      LONGHAUL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<GroupLinks>> links_ LONGHAUL_GUARDED_BY(mutex_);
  std::optional<CollectiveError> failure_ LONGHAUL_GUARDED_BY(mutex_);  // the first one
  // When on_fault() came first; operations are given up some time after.
  std::optional<Instant> fault_seen_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace longhaul
