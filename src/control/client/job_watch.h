// The stream behind JobClient::watch(): a thread reads it into a bounded mailbox.
#pragma once

#include <memory>

#include "control/client/connection.h"
#include "longhaul/control/job_client.h"

namespace longhaul {

std::unique_ptr<JobWatch> start_watch(std::shared_ptr<Connection> connection,
                                      const v1::WatchJobRequest& request);

}  // namespace longhaul
