// A Coordinator in memory: keeps what it is told. Thread safety: any thread.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "longhaul/agent/coordinator.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"

namespace longhaul::testing {

class FakeCoordinator final : public Coordinator {
 public:
  Result<Placement> join() override { return Placement{}; }

  Result<void> store_set(const std::string& key, const std::string& value) override {
    MutexLock lock(mutex_);
    values_[key] = value;
    return {};
  }
  Result<std::string> store_get(const std::string& key, milliseconds) override {
    MutexLock lock(mutex_);
    const auto found = values_.find(key);
    if (found == values_.end()) return Failure{ErrorKind::kDeadline, "no '" + key + "' in time"};
    return found->second;
  }
  Result<void> store_wait(const std::vector<std::string>& keys, milliseconds timeout) override {
    for (const std::string& key : keys) {
      const auto value = store_get(key, timeout);
      if (!value) return value.failure();
    }
    return {};
  }
  Result<int64_t> store_add(const std::string& key, int64_t amount) override {
    MutexLock lock(mutex_);
    std::string& value = values_[key];
    const int64_t sum = (value.empty() ? 0 : std::stoll(value)) + amount;
    value = std::to_string(sum);
    return sum;
  }
  Result<bool> store_check(const std::vector<std::string>& keys) override {
    MutexLock lock(mutex_);
    for (const std::string& key : keys)
      if (values_.count(key) == 0) return false;
    return true;
  }
  Result<bool> store_delete(const std::string& key) override {
    MutexLock lock(mutex_);
    return values_.erase(key) > 0;
  }
  Result<std::string> store_compare_set(const std::string& key, const std::string& expected,
                                        const std::string& desired) override {
    MutexLock lock(mutex_);
    const auto found = values_.find(key);
    if (found == values_.end() ? expected.empty() : found->second == expected)
      values_[key] = desired;
    return values_[key];
  }

  Result<ReportAnswer> report(const RankProgress& progress) override {
    MutexLock lock(mutex_);
    reports_.push_back(progress);
    changed_.notify_all();
    return ReportAnswer{stop_, std::exchange(stack_wanted_, false)};
  }
  Result<void> report_fault(const RankFault& fault) override {
    MutexLock lock(mutex_);
    faults_.push_back(fault);
    return {};
  }
  Result<void> leave() override { return {}; }

  void ask_for_stack() {
    MutexLock lock(mutex_);
    stack_wanted_ = true;
  }
  void ask_to_stop() {
    MutexLock lock(mutex_);
    stop_ = true;
  }
  // Waits until `count` reports came; false after 20 s.
  bool wait_for_reports(size_t count) {
    const Instant deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    MutexLock lock(mutex_);
    while (reports_.size() < count)
      if (!changed_.wait_until(mutex_, deadline)) return false;
    return true;
  }
  std::vector<RankProgress> reports() {
    MutexLock lock(mutex_);
    return reports_;
  }
  std::vector<RankFault> faults() {
    MutexLock lock(mutex_);
    return faults_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<std::string, std::string> values_ LONGHAUL_GUARDED_BY(mutex_);
  std::vector<RankProgress> reports_ LONGHAUL_GUARDED_BY(mutex_);
  std::vector<RankFault> faults_ LONGHAUL_GUARDED_BY(mutex_);
  bool stop_ LONGHAUL_GUARDED_BY(mutex_) = false;
  bool stack_wanted_ LONGHAUL_GUARDED_BY(mutex_) = false;
};

}  // namespace longhaul::testing
