// A job's output on the master's disk, so that a restarted master still has it: pieces in the order
// they came, appended to one file. Written without fsync: it outlives the master, not the machine.
//
// Each entry is its size (4 bytes, little-endian) and a v1::Output; one without data tells only up
// to where its (rank, stream) had been received when older entries were left out.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "longhaul/base/unique_fd.h"
#include "longhaul/v1/job.pb.h"

namespace longhaul {

class OutputLog {
 public:
  // `path` empty: nothing is kept.
  explicit OutputLog(std::string path) : path_(std::move(path)) {}

  // Every whole entry that is there; a last one that was cut by a crash is dropped. Before
  // append(). What cannot be read is not touched: the log takes nothing in this life then. Of one
  // that is damaged in the middle a copy is kept (PATH.damaged).
  std::vector<v1::Output> load();

  // False: the disk is full, and nothing was written. What it does not take for any other reason is
  // dropped. Either is logged once.
  bool append(const v1::Output& output);

  // These instead of all that is there. False: they could not be written, and the old file stays.
  bool rewrite(const std::vector<const v1::Output*>& entries);

  uint64_t bytes() const { return bytes_; }
  void remove();

 private:
  void open(const std::string& path, int flags);
  bool read_all(std::string* bytes);
  void give_up(const std::string& why);

  std::string path_;
  UniqueFd fd_;
  uint64_t bytes_ = 0;
  bool complained_ = false;
};

}  // namespace longhaul
