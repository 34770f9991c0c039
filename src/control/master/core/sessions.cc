#include "control/master/core/sessions.h"

#include <utility>

namespace longhaul {

SessionId Sessions::add(std::shared_ptr<SessionSink> sink) {
  sessions_[++last_].sink = std::move(sink);
  return last_;
}

void Sessions::send(SessionId session, OutgoingMessage message) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  found->second.registered |= (*message)->has_registered();
  found->second.sink->send(std::move(message));
}

void Sessions::close(SessionId session, const std::string& reason) {
  const auto found = sessions_.find(session);
  if (found != sessions_.end()) found->second.sink->close(reason, true);
}

void Sessions::close_all(const std::string& reason) {
  for (auto& [id, session] : sessions_) session.sink->close(reason, true);
}

uint64_t Sessions::took_output(SessionId session, const LaunchId& launch, size_t bytes) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return 0;
  return found->second.output_bytes[launch] += bytes;
}

void Sessions::reassure(const std::function<void(SessionId)>& unregistered) {
  for (const auto& [id, session] : sessions_) {
    if (!session.registered) unregistered(id);
    OutgoingMessage alive = message();
    (*alive)->mutable_keep_alive();
    session.sink->send(std::move(alive));
  }
}

}  // namespace longhaul
