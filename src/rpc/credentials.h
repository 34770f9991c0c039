// What a process shows of itself on its connections, and asks of the other side. Chosen in main()
// and passed on as a value to whatever dials or listens; no other code knows what is in it.
//
// Today there is plain text alone, on ports that bind loopback unless told otherwise.
#pragma once

#include <memory>

namespace grpc {
class ChannelCredentials;
class ServerCredentials;
}  // namespace grpc

namespace longhaul {

// Holds none of gRPC's objects: the first of these starts gRPC's threads, and a daemon blocks its
// signals before there is any thread to take them.
class Credentials {
 public:
  // For calls to a master, or to an agent.
  std::shared_ptr<grpc::ChannelCredentials> dialing() const;
  // For the port of one.
  std::shared_ptr<grpc::ServerCredentials> listening() const;
};

// Also what a rank and the worker on its host talk with, over a socket of the file system.
inline Credentials plain_text() {
  return {};
}

}  // namespace longhaul
