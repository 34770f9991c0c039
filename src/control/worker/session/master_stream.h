// One try at a session with the master: the stream that the worker opens and on which everything
// travels. Used once; a reconnect makes a new one.
//
// Thread safety: none; all methods, and all callbacks, on one EventLoop's thread. gRPC's own
// threads only post to it.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "control/worker/host/event_loop.h"
#include "longhaul/base/error.h"
#include "longhaul/v1/worker_service.pb.h"
#include "rpc/credentials.h"

namespace longhaul {

class MasterStream {
 public:
  struct Listener {
    std::function<void(v1::MasterMessage)> message;
    // Last of all, once: why the stream is over.
    std::function<void(const Failure&)> closed;
  };

  // Starts to connect to `address` ("host:port").
  // The loop is shared because gRPC may end the call after this object has gone.
  MasterStream(std::shared_ptr<EventLoop> loop, const std::string& address,
               const Credentials& credentials, Listener listener);
  // Cancels; the listener hears nothing more.
  ~MasterStream();

  // Messages go in this order; those not yet sent when the stream breaks are lost.
  void send(v1::WorkerMessage message);
  // Says that nothing more will come: the worker takes its leave. closed() follows.
  void finish();
  // Breaks the stream: closed() follows.
  void cancel();

 private:
  class Reactor;
  std::shared_ptr<Reactor> reactor_;
};

}  // namespace longhaul
