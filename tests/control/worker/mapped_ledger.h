// A rank's ledger as its shim has it: the page itself, to be written by a test in its place.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>

#include <stdexcept>
#include <string>

#include "base/unique_fd.h"
#include "control/worker/process/process_ledger.h"

namespace longhaul::testing {

class MappedLedger {
 public:
  explicit MappedLedger(const std::string& process_folder) {
    const std::string path = process_folder + "/" + ProcessLedger::kFileName;
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    page_ = ::mmap(nullptr, sizeof(ProcessLedger), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (page_ == MAP_FAILED) throw std::runtime_error(path + ": cannot be mapped");
  }
  ~MappedLedger() { ::munmap(page_, sizeof(ProcessLedger)); }
  MappedLedger(const MappedLedger&) = delete;
  MappedLedger& operator=(const MappedLedger&) = delete;

  ProcessLedger& operator*() const { return *static_cast<ProcessLedger*>(page_); }
  ProcessLedger* operator->() const { return static_cast<ProcessLedger*>(page_); }

 private:
  void* page_ = nullptr;
};

}  // namespace longhaul::testing
