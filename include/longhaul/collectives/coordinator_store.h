// A c10d::Store over the Coordinator (the worker's agent socket): how process groups meet without a
// port of their own. Keys of one generation never meet those of another.
//
// Thread safety: as the Coordinator's: any thread, also while another one waits here.
// Errors: longhaul::Error with the Coordinator's kind; a job that is failing ends every wait with
// kPeerLost and its reason.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <memory>
#include <string>
#include <vector>

#include "longhaul/agent/coordinator.h"

namespace longhaul {

class CoordinatorStore final : public c10d::Store {
 public:
  // `timeout`: of get() and of wait() without one.
  CoordinatorStore(std::shared_ptr<Coordinator> coordinator, Generation generation,
                   milliseconds timeout);

  c10::intrusive_ptr<c10d::Store> clone() override;

  using c10d::Store::compareSet;
  using c10d::Store::set;
  void set(const std::string& key, const std::vector<uint8_t>& value) override;
  // Waits until `key` is there.
  std::vector<uint8_t> get(const std::string& key) override;
  int64_t add(const std::string& key, int64_t amount) override;
  bool check(const std::vector<std::string>& keys) override;
  bool deleteKey(const std::string& key) override;
  std::vector<uint8_t> compareSet(const std::string& key, const std::vector<uint8_t>& expected,
                                  const std::vector<uint8_t>& desired) override;
  void wait(const std::vector<std::string>& keys) override { wait(keys, timeout_); }
  void wait(const std::vector<std::string>& keys, const milliseconds& timeout) override;
  std::vector<std::vector<uint8_t>> multiGet(const std::vector<std::string>& keys) override;
  void multiSet(const std::vector<std::string>& keys,
                const std::vector<std::vector<uint8_t>>& values) override;
  // No: append() cannot be made atomic over a Coordinator, so Gloo is told to do without.
  bool hasExtendedApi() const override { return false; }
  // Refused with kInvalid: a rank sees only the keys it knows.
  int64_t getNumKeys() override;

 private:
  std::string full(const std::string& key) const { return prefix_ + key; }
  std::vector<std::string> full(const std::vector<std::string>& keys) const;

  const std::shared_ptr<Coordinator> coordinator_;
  const Generation generation_;
  const std::string prefix_;
};

}  // namespace longhaul
