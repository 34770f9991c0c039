// What one server of ours gives its callers, whoever they are: docs/control-plane.md, "One caller,
// everybody's trouble", says what that stops and what gRPC 1.51 cannot be taught.
#pragma once

#include <grpcpp/server_builder.h>

#include <cstddef>

namespace longhaul {

struct ServerLimits {
  int streams_per_connection = 1000;  // calls open at once
  // Of all connections together, for what has come and is not taken yet. Beyond it gRPC closes
  // connections, idle ones first; those of ours come back by themselves.
  size_t memory_bytes = size_t{1} << 30;
};

// Also message sizes, the size of a call's headers, and how often a caller may ask for a sign of
// life (rpc/channel.h).
void set_limits(grpc::ServerBuilder& builder, const ServerLimits& limits);

// A flood leaves memory that is free and still ours: gives it back to the system. Takes a while;
// from any thread.
void give_free_memory_back();

}  // namespace longhaul
