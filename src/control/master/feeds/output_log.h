// A job's output on the master's disk, so that a restarted master still has it: pieces in the order
// they came, appended to one file. Written without fsync: it outlives the master, not the machine.
//
// The file begins with the 8 bytes "LHOUT2\n\0". Each entry is a mark (4 bytes, "lho\x02"), its
// size (4 bytes), the XXH3 of what follows (8 bytes; both little-endian), and a v1::Output; one
// without data tells only up to where its (rank, stream) had been received when older entries were
// left out. What is damaged is passed over, up to the next mark with a whole entry behind it. A
// file that begins otherwise is of an older master: sizes and outputs alone.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "longhaul/v1/job.pb.h"

namespace longhaul {

class OutputLog {
 public:
  using Entry = std::shared_ptr<const v1::Output>;

  // `path` empty: nothing is kept.
  explicit OutputLog(std::string path) : path_(std::move(path)) {}

  // Every whole entry that is there. The file holds these alone afterwards: a last one that was cut
  // by a crash is dropped, damage is cleared away, and the file as it was is kept (PATH.damaged).
  // What cannot be read is not touched: the log takes nothing in this life then. Before append().
  std::vector<v1::Output> load();

  // False: the disk is full, and nothing was written. What it does not take for any other reason is
  // dropped. Either is logged once.
  bool append(const v1::Output& output);

  // These instead of all that is there. False: they could not be written, and the old file stays.
  bool rewrite(const std::vector<Entry>& entries);

  // The same in two steps, so that the long one needs no lock: a file beside this one, which then
  // takes its place. Empty: it could not be written.
  OutputLog draft(const std::vector<Entry>& entries) const;
  bool replace_by(OutputLog draft);

  bool keeps() const { return !path_.empty(); }
  // For draft() on another thread: knows where this one lies and nothing else.
  OutputLog beside() const { return OutputLog(path_); }
  uint64_t bytes() const { return bytes_; }
  void remove();

 private:
  OutputLog draft(const std::vector<Entry>& entries, const char* ending) const;
  bool open(int flags);
  bool write(const std::string& bytes);
  bool read_all(std::string* bytes);
  void give_up(const std::string& why);
  void keep_damaged(size_t left_out, size_t bytes);

  std::string path_;
  UniqueFd fd_;
  // Of whole entries, and so where the next one begins: what a failed write leaves behind that is
  // cut off.
  uint64_t bytes_ = 0;
  // The log names the trouble once, until a write succeeds.
  bool complained_ = false;
};

}  // namespace longhaul
