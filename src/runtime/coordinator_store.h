// The rendezvous store of a Coordinator as a c10d::Store, so that process groups meet through it.
// Failures are thrown as longhaul::Error with the coordinator's own words.
// Thread safety: as the coordinator's: any thread.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include <memory>

#include "longhaul/membership/coordinator.h"

namespace longhaul {

class CoordinatorStore final : public c10d::Store {
 public:
  CoordinatorStore(std::shared_ptr<Coordinator> coordinator, milliseconds timeout);

  c10::intrusive_ptr<c10d::Store> clone() override;
  using Store::set;
  void set(const std::string& key, const std::vector<uint8_t>& value) override;
  using Store::compareSet;
  std::vector<uint8_t> compareSet(const std::string& key, const std::vector<uint8_t>& expected,
                                  const std::vector<uint8_t>& desired) override;
  std::vector<uint8_t> get(const std::string& key) override;
  int64_t add(const std::string& key, int64_t amount) override;
  bool deleteKey(const std::string& key) override;
  bool check(const std::vector<std::string>& keys) override;
  // Not known to a coordinator: throws Error(kInvalid).
  int64_t getNumKeys() override;
  void wait(const std::vector<std::string>& keys) override;
  void wait(const std::vector<std::string>& keys, const milliseconds& timeout) override;

 private:
  const std::shared_ptr<Coordinator> coordinator_;
};

}  // namespace longhaul
