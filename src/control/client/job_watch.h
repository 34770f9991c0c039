// The stream behind JobClient::watch(): a thread reads it into a bounded mailbox.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "control/client/connection.h"
#include "control/client/job_client.h"
#include "longhaul/base/mutex.h"

namespace longhaul {

// Of which life of the master's state the jobs are that a client has heard of, by their ids: asked
// about one again, it means that one. Thread safety: any thread.
class JobLives {
 public:
  void learn(const JobId& job, uint64_t life) {
    MutexLock lock(mutex_);
    lives_[job] = life;
  }
  // 0: not heard of.
  uint64_t of(const std::string& job) const {
    MutexLock lock(mutex_);
    const auto found = lives_.find(job);
    return found == lives_.end() ? 0 : found->second;
  }

 private:
  mutable Mutex mutex_;
  std::map<JobId, uint64_t> lives_ LONGHAUL_GUARDED_BY(mutex_);
};

std::unique_ptr<JobWatch> start_watch(std::shared_ptr<Connection> connection,
                                      const v1::WatchJobRequest& request,
                                      std::shared_ptr<JobLives> lives);

}  // namespace longhaul
