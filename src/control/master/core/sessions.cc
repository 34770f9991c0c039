#include "control/master/core/sessions.h"

#include <utility>

namespace longhaul {

SessionId Sessions::add(std::shared_ptr<SessionSink> sink) {
  owner_.assert_owner();
  sessions_[++last_].sink = std::move(sink);
  return last_;
}

void Sessions::remove(SessionId session) {
  owner_.assert_owner();
  sessions_.erase(session);
}

bool Sessions::has(SessionId session) const {
  owner_.assert_owner();
  return sessions_.contains(session);
}

void Sessions::send(SessionId session, OutgoingMessage message) {
  owner_.assert_owner();
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  found->second.registered |= (*message)->has_registered();
  found->second.sink->send(std::move(message));
}

void Sessions::close(SessionId session, const std::string& reason) {
  owner_.assert_owner();
  const auto found = sessions_.find(session);
  if (found != sessions_.end()) found->second.sink->close(reason, true);
}

void Sessions::close_all(const std::string& reason) {
  owner_.assert_owner();
  for (auto& [id, session] : sessions_) session.sink->close(reason, true);
}

uint64_t Sessions::took_output(SessionId session, const LaunchId& launch, size_t bytes) {
  owner_.assert_owner();
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return 0;
  return found->second.output_bytes[launch] += bytes;
}

void Sessions::reassure(const std::function<void(SessionId)>& unregistered) {
  owner_.assert_owner();
  for (const auto& [id, session] : sessions_) {
    if (!session.registered) unregistered(id);
    OutgoingMessage alive = message();
    (*alive)->mutable_keep_alive();
    session.sink->send(std::move(alive));
  }
}

}  // namespace longhaul
