// The streams of workers, as the owner thread sees them.
//
// Thread safety: the owner thread's; a SessionSink's methods may be called by it alone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/owner.h"
#include "cluster/cluster_messages.h"
#include "longhaul/v1/worker_service.pb.h"
#include "rpc/on_arena.h"

namespace longhaul {

using OutgoingMessage = std::unique_ptr<OnArena<v1::MasterMessage>>;

// One stream. No method blocks.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  virtual void send(OutgoingMessage message) = 0;
  // Ends the stream: after what was sent before when `drain`, else at once.
  virtual void close(const std::string& reason, bool drain) = 0;
};

class Sessions {
 public:
  explicit Sessions(const Owner& owner) : owner_(owner) {}

  SessionId add(std::shared_ptr<SessionSink> sink);
  void remove(SessionId session);
  bool has(SessionId session) const;
  static OutgoingMessage message() { return std::make_unique<OnArena<v1::MasterMessage>>(); }
  // Nothing happens when it is gone.
  void send(SessionId session, OutgoingMessage message);
  void close(SessionId session, const std::string& reason);
  void close_all(const std::string& reason);
  // Of a launch's output so many bytes more have come on this stream; returns how many there are by
  // now, 0 when the stream is gone.
  uint64_t took_output(SessionId session, const LaunchId& launch, size_t bytes);
  // Says on every stream that this master lives; `unregistered` is called for those that wait for
  // the answer to their registration: they send no heartbeats meanwhile.
  void reassure(const std::function<void(SessionId)>& unregistered);

 private:
  struct Session {
    std::shared_ptr<SessionSink> sink;
    bool registered = false;                    // and told so
    std::map<LaunchId, uint64_t> output_bytes;  // taken on this stream
  };
  const Owner& owner_;
  std::map<SessionId, Session> sessions_;
  SessionId last_ = 0;
};

}  // namespace longhaul
