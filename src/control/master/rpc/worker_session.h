// WorkerService.Session: one stream of one worker. Reads one message at a time and reads on when
// the owner thread has dealt with it, so a flood from a worker waits in the worker. Writes are
// queued and bounded, so a worker that does not read loses its stream and never holds up the owner
// thread.
#pragma once

#include "control/master/core/core.h"
#include "longhaul/v1/worker_service.grpc.pb.h"

namespace longhaul {

class WorkerServiceImpl final : public v1::WorkerService::CallbackService {
 public:
  explicit WorkerServiceImpl(Core* core) : core_(core) {}
  grpc::ServerBidiReactor<v1::WorkerMessage, v1::MasterMessage>* Session(
      grpc::CallbackServerContext* context) override;
  // put_result.cc
  grpc::ServerBidiReactor<v1::PutResultRequest, v1::PutResultReply>* PutResult(
      grpc::CallbackServerContext* context) override;

 private:
  Core* const core_;
};

}  // namespace longhaul
