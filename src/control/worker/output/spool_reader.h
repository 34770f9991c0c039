// The reading end of one stream of a rank's output on disk, which the rank's shim writes
// (spool_writer.h): what was written, by offset, and how much of it the master has. Another worker
// that opens the same folder goes on where this one was.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "control/worker/process/process_folder.h"

namespace longhaul {

class SpoolReader {
 public:
  // What tail() can show is kept even when the master has it.
  static constexpr uint64_t kTailBytes = 64 << 10;

  // Of a rank that was never started: nothing, for ever.
  SpoolReader() = default;
  // `stream`: 0 (stdout) or 1 (stderr). `folder` outlives this.
  SpoolReader(const ProcessFolder& folder, int stream);

  // How much the rank has written.
  uint64_t end() const;

  // Up to `max` bytes from `offset`, or from the next one that is still there; `offset` becomes
  // where they begin. "" at end(), and in trouble().
  std::string read(uint64_t& offset, size_t max);
  // Why the last read() gave nothing though there is something: it is to be tried again. "": all
  // is well.
  const std::string& trouble() const { return trouble_; }
  // The last kTailBytes, or fewer.
  std::string tail();

  // The master has it up to here: whole segments before are removed.
  void acknowledge(uint64_t offset);
  uint64_t acknowledged() const;

 private:
  std::vector<uint64_t> segments();
  std::string segment_name(uint64_t start) const;
  UniqueFd open_segment(uint64_t start);
  uint64_t open_from(uint64_t offset, uint64_t limit);
  void note_trouble(int error_number);
  std::string read_segment(uint64_t offset, uint64_t max) const;
  void trim(uint64_t needed_from, uint64_t limit);

  const ProcessLedger::Stream* stream_ = nullptr;
  const ProcessFolder* folder_ = nullptr;
  int number_ = 0;
  std::string name_;
  std::string trouble_;
  UniqueFd segment_;
  uint64_t segment_start_ = 0;
  uint64_t trim_at_ = 0;  // nothing can be removed before this is acknowledged
};

}  // namespace longhaul
