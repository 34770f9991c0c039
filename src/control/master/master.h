// A whole master: port, services, owner thread. apps/master is flags round this; tests start
// several.
//
// Thread safety: any thread, but one at a time.
#pragma once

#include <grpcpp/server.h>

#include <memory>
#include <string>

#include "control/master/core.h"
#include "control/master/job_service.h"
#include "control/master/worker_session.h"

namespace longhaul {

struct MasterOptions {
  std::string listen = "127.0.0.1:7700";  // HOST:PORT; port 0: any free one
  Core::Options core;
};

class Master {
 public:
  // Errors: kUnavailable (the port is taken, or no address of this machine).
  static Result<std::unique_ptr<Master>> start(const MasterOptions& options);
  // As a crash: streams break, no rank is stopped.
  ~Master();

  // HOST:PORT with the port that was bound.
  const std::string& address() const { return address_; }

  // Stops all jobs, waits for their ranks up to `limit`, then takes leave of workers and watchers.
  // Returns false when ranks were still running.
  bool shut_down(milliseconds limit);

 private:
  Master(const MasterOptions& options, std::string incarnation);

  SystemClock clock_;
  Core core_;
  WorkerServiceImpl worker_service_{&core_};
  JobServiceImpl job_service_{&core_};
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace longhaul
