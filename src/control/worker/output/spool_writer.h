// The writing end of one stream of a rank's output on disk, as the shim has it; the worker reads it
// through SpoolReader. Used by the shim: libc and containers only.
//
// The bytes lie in segment files NAME.START, where START is the offset of their first byte in the
// stream. A file holds what follows without a gap; what is missing between two of them is gone:
//   - the oldest segments go when the stream would take more than its cap,
//   - what the disk does not take is dropped, and what it takes afterwards begins a new segment.
// How far the stream has come is told in the rank's ledger, after the bytes themselves.
//
// Thread safety: none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include "control/worker/process/process_ledger.h"

namespace longhaul {

class SpoolWriter {
 public:
  // A spool is kept in this many files, which go one by one.
  static constexpr uint64_t kSegments = 4;

  // Files are made in the folder `folder_fd`. `max_bytes`: at least kSegments.
  SpoolWriter(int folder_fd, std::string name, ProcessLedger::Stream& stream, uint64_t max_bytes);
  ~SpoolWriter();
  SpoolWriter(const SpoolWriter&) = delete;
  SpoolWriter& operator=(const SpoolWriter&) = delete;

  void append(const char* data, size_t size);

 private:
  bool open_segment();
  size_t write(const char* data, size_t size);
  void close_segment();
  void drop_oldest();
  std::string file_name(uint64_t start) const;

  const int folder_fd_;
  const std::string name_;
  ProcessLedger::Stream& stream_;
  const uint64_t max_bytes_;
  const uint64_t segment_bytes_;
  int fd_ = -1;
  // Offset in the stream of the next byte, what the disk did not take included.
  uint64_t end_ = 0;
  std::deque<uint64_t> starts_;  // of the segments on disk
};

}  // namespace longhaul
