// A rank's ledger as its shim has it: the page itself, to be written by a test in its place.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>

#include <stdexcept>
#include <string>

#include "base/unique_fd.h"
#include "control/worker/process/rank_ledger.h"

namespace longhaul::testing {

class MappedLedger {
 public:
  explicit MappedLedger(const std::string& rank_folder) {
    const std::string path = rank_folder + "/" + RankLedger::kFileName;
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    page_ = ::mmap(nullptr, sizeof(RankLedger), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (page_ == MAP_FAILED) throw std::runtime_error(path + ": cannot be mapped");
  }
  ~MappedLedger() { ::munmap(page_, sizeof(RankLedger)); }
  MappedLedger(const MappedLedger&) = delete;
  MappedLedger& operator=(const MappedLedger&) = delete;

  RankLedger& operator*() const { return *static_cast<RankLedger*>(page_); }
  RankLedger* operator->() const { return static_cast<RankLedger*>(page_); }

 private:
  void* page_ = nullptr;
};

}  // namespace longhaul::testing
