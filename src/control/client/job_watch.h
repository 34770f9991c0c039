// The stream behind JobClient::watch(): a thread reads it into a bounded mailbox.
#pragma once

#include <memory>
#include <string>

#include "longhaul/control/job_client.h"
#include "longhaul/v1/job_service.grpc.pb.h"

namespace longhaul {

// `stub` must live as long as the watch; `whom` names the master in messages.
std::unique_ptr<JobWatch> start_watch(std::shared_ptr<v1::JobService::Stub> stub,
                                      const v1::WatchJobRequest& request, const std::string& whom);

// gRPC's words for a call that could not reach the master, in ours: "connection refused".
Failure master_failure(const grpc::Status& status, const std::string& whom);

}  // namespace longhaul
