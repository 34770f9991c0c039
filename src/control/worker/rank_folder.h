// The folder of one rank on disk: the ledger that the worker shares with the rank's shim, the
// spooled output, and the socket at which the shim listens. It outlives the worker: another one
// opens it and finds everything.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "control/worker/rank_ledger.h"
#include "longhaul/base/result.h"
#include "longhaul/base/unique_fd.h"

namespace longhaul {

class RankFolder {
 public:
  // Makes the folder, with a ledger in which nothing has happened yet. Errors: kUnavailable (no
  // space left, not writable).
  static Result<RankFolder> create(const std::string& path, const std::string& token);
  // One that is there. Errors: kUnavailable (no ledger), kCorrupt (it is none).
  static Result<RankFolder> open(const std::string& path);

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  RankLedger& ledger() const { return *ledger_; }
  // False for a ledger of another version: only its first part may be read.
  bool understood() const { return ledger_->version == RankLedger::kVersion; }
  std::string token() const;
  // "NAME=value" in the environment of the shim, the rank and all that it started.
  std::string mark() const;

  // The number under which the master knows the rank's call `number`: `fresh`, when it is new.
  uint64_t call_id(uint64_t number, uint64_t fresh) const;

  // A pidfd of the shim that the ledger names; invalid when that process is gone, even if its pid
  // is another's by now.
  UniqueFd find_shim() const;
  // A connection to the shim, which takes it for its worker from now on. Errors: kUnavailable.
  Result<UniqueFd> connect() const;

 private:
  struct Unmap {
    void operator()(RankLedger* ledger) const;
  };
  RankFolder() = default;
  static Result<RankFolder> map(const std::string& path, int open_flags);

  std::string path_;
  UniqueFd fd_;
  std::unique_ptr<RankLedger, Unmap> ledger_;
};

}  // namespace longhaul
