// What watchers of one job see: its latest status and the output kept so far. Watchers pull at
// their own pace with a cursor, so a slow one costs no memory: it skips statuses that are outdated,
// and is told how much output it has missed.
//
// Thread safety: all methods may be called from any thread. The owner thread writes, gRPC's threads
// read, and a thread for long writes leaves out of the log what is kept no more.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/queue.h"
#include "control/master/feeds/output_log.h"
#include "longhaul/base/mutex.h"
#include "longhaul/v1/job_service.pb.h"

namespace longhaul {

// Somebody to be told that there is something new. wake() must not block.
class FeedListener {
 public:
  virtual ~FeedListener() = default;
  virtual void wake() = 0;
};

class JobFeed : public std::enable_shared_from_this<JobFeed> {
 public:
  // What another thread does, when it comes to it.
  using LongWrites = Queue<std::function<void()>>;
  // Keeps at most `max_bytes` of output, counting a little for each piece, and twice that on disk
  // before the oldest goes: what is in the log at `log_path` already is taken up. An empty path: in
  // memory only. Without `long_writes` whoever appends writes the log anew.
  explicit JobFeed(size_t max_bytes, const std::string& log_path = "",
                   LongWrites* long_writes = nullptr);

  // Writing.

  void publish(v1::JobStatus status, bool ended);
  // Pieces of one (generation, rank, stream) that came before are dropped by their offset: after a
  // reconnect a worker sends again what was not acknowledged.
  void append(const v1::Output& output);
  // Writes what the log has not taken yet, because the disk was full. False: it still is.
  bool write_log();
  // Throws away what is kept; watchers are told how much that was.
  void clear_output();
  // The job is forgotten: removes the log.
  void remove_log();
  size_t output_bytes() const;
  v1::JobStatus status() const;
  bool ended() const;

  // Reading.

  using StreamKey = std::tuple<uint64_t, uint32_t, int>;  // generation, rank, stream

  // Where one watcher stands. The fields before the line are what it asked for.
  struct Cursor {
    bool output = false;
    bool follow = true;
    std::set<uint32_t> only_ranks;  // empty: all
    uint64_t attempt = 0;           // of this generation only; 0: of all
    uint64_t since_unix_ms = 0;     // only lines that were whole at this time or later
    // ----
    uint64_t byte = 0;                       // output before this has been read
    uint64_t version = 0;                    // of the status last read
    std::map<StreamKey, std::string> heads;  // of lines that began before since_unix_ms
  };
  // A cursor at the end of the output, or at its start.
  Cursor start(bool output, bool from_start, bool follow, std::set<uint32_t> only_ranks) const;

  enum class Next { kEvent, kNothingYet, kEnd };
  // The next event for this watcher. The status of an ended job comes last of all.
  Next next(Cursor* cursor, v1::WatchJobEvent* event) const;

  void listen(const std::weak_ptr<FeedListener>& listener);

 private:
  struct Piece {
    uint64_t begin;  // in bytes of all output of the job
    OutputLog::Entry output;
  };

  static StreamKey stream_of(const v1::Output& output);
  bool next_output(Cursor* cursor, v1::WatchJobEvent* event) const LONGHAUL_REQUIRES(mutex_);
  static bool wanted(Cursor* cursor, const v1::Output& output, v1::Output* shown);
  bool take(v1::Output output) LONGHAUL_REQUIRES(mutex_);
  void trim(size_t max_bytes) LONGHAUL_REQUIRES(mutex_);
  bool write_missing() LONGHAUL_REQUIRES(mutex_);
  std::vector<OutputLog::Entry> marks_and_pieces() const LONGHAUL_REQUIRES(mutex_);
  void shorten_log() LONGHAUL_REQUIRES(mutex_);
  void took_its_place(bool done) LONGHAUL_REQUIRES(mutex_);
  void write_anew(uint64_t number, const std::vector<OutputLog::Entry>& entries, uint64_t end);
  void wake_listeners();

  const size_t max_bytes_;
  LongWrites* const long_writes_;
  mutable Mutex mutex_;
  v1::JobStatus status_ LONGHAUL_GUARDED_BY(mutex_);
  // Counts statuses: a watcher whose cursor has another number has not seen the latest one.
  uint64_t version_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  bool ended_ LONGHAUL_GUARDED_BY(mutex_) = false;
  OutputLog log_ LONGHAUL_GUARDED_BY(mutex_);
  // Of the last time that the log was to be written anew; what an older one brings is out of date.
  uint64_t anew_number_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  bool anew_ LONGHAUL_GUARDED_BY(mutex_) = false;    // it is being done
  uint64_t anew_above_ LONGHAUL_GUARDED_BY(mutex_);  // bytes of the log
  // In the order in which they came, and by `begin` without gaps.
  std::deque<Piece> pieces_ LONGHAUL_GUARDED_BY(mutex_);
  size_t kept_ LONGHAUL_GUARDED_BY(mutex_) = 0;     // bytes, with the overhead of pieces
  uint64_t begin_ LONGHAUL_GUARDED_BY(mutex_) = 0;  // of what is kept
  uint64_t end_ LONGHAUL_GUARDED_BY(mutex_) = 0;
  uint64_t logged_ LONGHAUL_GUARDED_BY(mutex_) = 0;  // up to here the log has it
  // How far each stream has come. For ranks it outlives the pieces, so that what a worker sends
  // again is not taken twice. What a task said is one piece, and goes with it.
  std::map<StreamKey, uint64_t> received_ LONGHAUL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<FeedListener>> listeners_ LONGHAUL_GUARDED_BY(mutex_);
};

}  // namespace longhaul
