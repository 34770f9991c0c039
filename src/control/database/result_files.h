// Results that are too large for a row: each a file of zstd frames beside the database, named by
// (job, task, lease epoch), which the row that makes the task done refers to. It is whole and
// synced before that row is written, and never changes after.
//
//   FOLDER/results/12/7.1099511627780        job 12, task 7, that epoch: whole
//   FOLDER/results/12/7.1099511627780.part   still coming; another try goes on at its end
//
// What no row refers to in the end is removed by those who know: remove(), and sweep() at the
// master's start. A file of which the database knows nothing is kept: it may be the database that
// has forgotten.
//
// Thread safety: none; one thread writes. Whole files may be read by anybody.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"
#include "longhaul/agent/lease.h"
#include "longhaul/base/result.h"
#include "wire/checksum.h"

namespace longhaul {

struct ResultName {
  uint64_t job = 0;
  TaskIndex task = 0;
  LeaseEpoch epoch = 0;

  auto operator<=>(const ResultName&) const = default;
};

// A file that is coming in. Going away before finish(), it leaves what it has for the next try.
class ResultDraft {
 public:
  // How many bytes of it are there already, from an earlier try.
  uint64_t size() const { return size_; }
  // Errors: kUnavailable (the disk; what was there before stays).
  Result<void> append(std::string_view bytes);
  // Returns when all of it is on disk under its name. Errors: kCorrupt (not these bytes: all of it
  // is dropped), kUnavailable (the disk).
  Result<void> finish(uint64_t bytes, uint64_t checksum);

 private:
  friend class ResultFiles;
  ResultDraft(std::string folder, std::string path)
      : folder_(std::move(folder)), path_(std::move(path)) {}
  Result<void> open();

  std::string folder_;
  std::string path_;  // of the whole file
  UniqueFd file_;
  uint64_t size_ = 0;
  Checksum checksum_;
};

class ResultFiles {
 public:
  // Left free on the disk for the database: a result must not be what stops a master.
  static constexpr uint64_t kReserveBytes = uint64_t{16} << 20;

  // `state_folder` is the database's.
  explicit ResultFiles(std::string state_folder) : state_folder_(std::move(state_folder)) {}

  // What the database says of a file.
  enum class Standing {
    kExpected,  // its lease is current
    kResult,    // its task is done by that lease
    kOver,      // its lease has ended, and not with a commit
    kUnknown,   // nothing
  };
  // Removes what is over, and parts of what is no result; calls `whole` for each that is expected
  // and there as a whole. Returns how many whole ones are kept of which nothing is known. Errors:
  // kUnavailable (a folder cannot be read, a file cannot be looked at).
  Result<size_t> sweep(const std::function<Standing(const ResultName&)>& standing,
                       const std::function<void(const ResultName&, uint64_t bytes)>& whole);
  // The same name twice: the older draft must be gone first. Errors: kUnavailable (the disk).
  Result<ResultDraft> open(const ResultName& name);
  void remove(const ResultName& name);
  void remove_job(uint64_t job);

 private:
  const std::string state_folder_;
};

// Errors: kUnavailable (with `bytes` more on the disk of `path`, less than kReserveBytes would be
// left for the database).
Result<void> check_room(const std::string& path, uint64_t bytes);
// Opens a whole one for reading. Errors: kCorrupt (it is not there), kUnavailable (it cannot be
// opened now).
Result<UniqueFd> open_result_file(const std::string& state_folder, const ResultName& name);
// Another name for it in a folder of the same form, or a copy of it on another disk. Errors:
// kUnavailable.
Result<void> copy_result_file(const std::string& state_folder, const ResultName& name,
                              const std::string& to_results_folder);

}  // namespace longhaul
