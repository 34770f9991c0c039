// Which indices an array job has, as users write them (Slurm's form):
//
//   0-999        each from 0 to 999
//   0-999%50     at most 50 of them at once
//   7,20,30-40:2 7, 20, 30, 32, ... 40
//
// Task 0 of the job is the first index as written, and so on. Kept as ranges: a million indices
// take no more memory than three.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "longhaul/agent/lease.h"
#include "longhaul/base/result.h"

namespace longhaul {

class ArraySpec {
 public:
  // Errors: kInvalid, naming the part of the text that is wrong: no number, a number above
  // kMaxIndex, a range that ends before it begins, a step or limit of 0, an index that occurs
  // twice, more than kMaxTasks indices.
  static Result<ArraySpec> parse(std::string_view text);

  static constexpr uint64_t kMaxIndex = 999'999'999'999'999;
  // What keeps the search for indices written twice fast, whatever the text.
  static constexpr size_t kMaxParts = 100'000;
  static constexpr size_t kMaxStepped = 1'000;

  TaskIndex size() const { return size_; }
  std::optional<TaskIndex> max_at_once() const { return max_at_once_; }

  // The index of a task. Precondition: task < size().
  uint64_t index(TaskIndex task) const;
  // The task of an index, when there is one.
  std::optional<TaskIndex> task(uint64_t index) const;

  // The shortest way to write it; parses to an equal one.
  std::string text() const;
  bool operator==(const ArraySpec&) const = default;

 private:
  // first, first + step, ... last; a single index has step 1.
  struct Range {
    uint64_t first = 0;
    uint64_t last = 0;
    uint64_t step = 1;
    TaskIndex first_task = 0;

    uint64_t count() const { return (last - first) / step + 1; }
    bool operator==(const Range&) const = default;
  };
  static Result<Range> parse_range(std::string_view text);
  static std::optional<uint64_t> shared_index(const Range& left, const Range& right);
  static std::string range_text(const Range& range);
  static std::optional<Failure> find_duplicate(std::vector<Range> ranges);

  std::vector<Range> ranges_;  // as written
  TaskIndex size_ = 0;
  std::optional<TaskIndex> max_at_once_;
};

}  // namespace longhaul
