// The stream behind JobClient::watch(): a thread reads it into a bounded mailbox.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "longhaul/base/mutex.h"
#include "longhaul/control/job_client.h"
#include "longhaul/v1/job_service.grpc.pb.h"

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

// `stub` must live as long as the watch; `whom` names the master in messages.
std::unique_ptr<JobWatch> start_watch(std::shared_ptr<v1::JobService::Stub> stub,
                                      const v1::WatchJobRequest& request, const std::string& whom,
                                      std::shared_ptr<JobLives> lives);

// gRPC's words for a call that could not reach the master, in ours: "connection refused".
Failure master_failure(const grpc::Status& status, const std::string& whom);

}  // namespace longhaul
