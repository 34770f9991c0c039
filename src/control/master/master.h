// A whole master: port, services, owner thread. apps/master is flags round this; tests start
// several.
//
// Thread safety: any thread, but one at a time.
#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "control/master/core/core.h"
#include "control/master/rpc/job_service.h"
#include "control/master/rpc/worker_session.h"
#include "rpc/acceptor.h"
#include "rpc/credentials.h"

namespace longhaul {

struct MasterOptions {
  std::string listen = "127.0.0.1:7700";  // HOST:PORT; port 0: any free one
  Credentials credentials = plain_text();
  std::string state_folder;  // empty: nothing outlives the master
  Core::Options core;
};

class Master {
 public:
  // Errors: kUnavailable (the port is taken, or no address of this machine; the disk), kInvalid
  // (another master uses the state folder, its database is of a newer version).
  static Result<std::unique_ptr<Master>> start(const MasterOptions& options);
  // As a crash: streams break, no rank is stopped.
  ~Master();

  // Called once, should the database refuse for good: this master is of no more use then.
  void on_broken(const std::function<void(const Failure&)>& callback) { core_.on_broken(callback); }

  // HOST:PORT with the port that was bound.
  const std::string& address() const { return address_; }

  // Takes leave of workers and watchers. Without a state folder all jobs are stopped first, and
  // their ranks waited for up to `limit`; with one they run on until a master comes back. Returns
  // false when ranks were to end and did not.
  bool shut_down(milliseconds limit);

 private:
  Master(const MasterOptions& options, std::unique_ptr<Database> database, MasterMemory memory);

  const bool durable_;
  // Destroyed in the opposite order: the server before the services that it calls, these before the
  // core.
  SystemClock clock_;
  Core core_;
  WorkerServiceImpl worker_service_{&core_};
  JobServiceImpl job_service_{&core_};
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Acceptor> acceptor_;
  std::string address_;
};

}  // namespace longhaul
