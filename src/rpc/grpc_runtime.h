// What is set for every channel and server, and once in a daemon.
#pragma once

#include <grpc/grpc.h>

#include <array>

namespace longhaul {

// Switched off at both ends: each of them costs every message its share, and results are compressed
// before they get here.
constexpr std::array<const char*, 3> kUnusedFeatures = {GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION,
                                                        GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION,
                                                        GRPC_ARG_ENABLE_CHANNELZ};

// Of the whole process, so for the daemons alone: a trainer that links the agent client is not
// ours. Call before the first channel or server is made; again does nothing. From any thread.
void set_up_grpc();

}  // namespace longhaul
