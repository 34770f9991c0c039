// The folder on disk of one process, of a rank or of a task: the ledger that the worker shares with
// its shim, the spooled output, and the socket at which the shim listens. It outlives the worker:
// another one opens it and finds everything. The process can write here too: nothing in here is
// taken for what it should be, and everything is reached by the folder's descriptor.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "control/worker/process/process_ledger.h"
#include "longhaul/base/result.h"

namespace longhaul {

class ProcessFolder {
 public:
  // Makes the folder, with a ledger in which nothing has happened yet. `token` is a random id: it
  // marks processes, and nobody else is to guess it. Errors: kUnavailable (no
  // space left, not writable), kExhausted (too many open files).
  static Result<ProcessFolder> create(const std::string& path, const std::string& token);
  // One that is there. Errors: kUnavailable (no ledger), kCorrupt (it is none), kExhausted (too
  // many open files: nobody can tell).
  static Result<ProcessFolder> open(const std::string& path);

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  // As of the last refresh().
  const ProcessLedger& ledger() const { return *ledger_; }
  // Reads the ledger again. False: it is none any more (cut short, overwritten, unreadable), and
  // what was known of it stays.
  bool refresh() const;
  // False for a ledger of another version: only its first part may be read.
  bool understood() const { return ledger_->version == ProcessLedger::kVersion; }
  std::string token() const;
  // "NAME=value" in the environment of the shim, the rank and all that it started.
  std::string mark() const;

  // The number under which the master knows the rank's call `number`: `fresh`, when it is new.
  uint64_t call_id(uint64_t number, uint64_t fresh) const;
  // The worker's other fields. A ledger that cannot be written is the rank's own loss: a worker
  // that comes after this one does not know it.
  void set_orders(const ProcessLedger::Orders& orders) const;
  void set_acknowledged(int stream, uint64_t offset) const;
  void set_input(uint64_t given, bool ended) const;

  // A pidfd of the shim that the ledger names; an invalid one when that process is gone, even if
  // its pid is another's by now. Errors: kExhausted and others (that cannot be told now).
  Result<UniqueFd> find_shim() const;
  // A connection to the shim, which takes it for its worker from now on. Errors: kUnavailable.
  Result<UniqueFd> connect() const;

 private:
  ProcessFolder() = default;
  static Result<ProcessFolder> attach(const std::string& path, int open_flags);
  Result<void> read(ProcessLedger& fresh) const;
  template <typename Field>
  void write(const Field& field) const;

  std::string path_;
  UniqueFd fd_;
  UniqueFd file_;
  // Stays where it is when the folder is moved: readers of the spools look at it.
  std::unique_ptr<ProcessLedger> ledger_;
};

}  // namespace longhaul
