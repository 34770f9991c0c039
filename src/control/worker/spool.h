// One stream of a rank's output on disk: what was written, by offset, until the master has it. A
// master that is slow or away blocks no rank; beyond kMaxBytes the oldest bytes go.
//
// The bytes lie in segment files PATH.0, PATH.1, ... of kSegmentBytes each.
// Thread safety: none.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "longhaul/base/unique_fd.h"

namespace longhaul {

class Spool {
 public:
  static constexpr uint64_t kSegmentBytes = 16 << 20;
  static constexpr uint64_t kMaxBytes = 64 << 20;

  explicit Spool(std::string path) : path_(std::move(path)) {}
  // Removes its files.
  ~Spool();
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  // Appends. What the disk does not take is dropped: end() moves on and a reader sees a gap; it is
  // logged once.
  void append(std::string_view data);

  // Up to `max` bytes from `offset`, or from begin() when that is later (bytes were dropped);
  // `offset` becomes where they begin. "" at end().
  std::string read(uint64_t& offset, size_t max) const;

  // Forgets bytes before `offset`, in whole segments.
  void trim(uint64_t offset);

  uint64_t begin() const { return begin_; }
  uint64_t end() const { return end_; }

 private:
  std::string segment_path(uint64_t segment) const;
  bool write(std::string_view data);

  std::string path_;
  UniqueFd write_fd_;
  uint64_t write_segment_ = 0;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
  bool complained_ = false;
};

}  // namespace longhaul
