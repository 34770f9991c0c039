// The one file where credentials are made. Today every port is plain text and binds loopback unless
// told otherwise; TLS 1.3 with client certificates comes in here and nowhere else.
#pragma once

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

namespace longhaul {

// For calls to a master or to a worker's agent socket.
std::shared_ptr<grpc::ChannelCredentials> channel_credentials();

// For the ports that a master or an agent listens on.
std::shared_ptr<grpc::ServerCredentials> server_credentials();

}  // namespace longhaul
