// What a task gave, to be read from its start, as often as needed: the file that it wrote, or else
// what it printed.
//
// Thread safety: none. It reads the task's folder, which stays until it is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/unique_fd.h"
#include "control/worker/output/spool_reader.h"
#include "control/worker/process/process_folder.h"
#include "longhaul/base/result.h"

namespace longhaul {

class ResultSource {
 public:
  // Where the task's $LONGHAUL_RESULT lies.
  static std::string path_in(const ProcessFolder& folder) { return folder.path() + "/result"; }

  // Precondition: the task has ended. `folder` outlives this. Errors: kInvalid (what lies at
  // $LONGHAUL_RESULT is no file, or cannot be read), kExhausted (it cannot be read now). What the
  // task printed is never taken in its place.
  static Result<ResultSource> open(const ProcessFolder& folder);

  uint64_t size() const { return size_; }
  // Up to `max` bytes from `offset` on; fewer only where some could not be kept, at the end, and
  // in trouble().
  std::string read(uint64_t offset, size_t max);
  // See SpoolReader::trouble().
  std::string trouble() const { return printed_ ? printed_->trouble() : ""; }

 private:
  ResultSource() = default;

  std::optional<UniqueFd> file_;
  std::optional<SpoolReader> printed_;
  uint64_t size_ = 0;
};

}  // namespace longhaul
