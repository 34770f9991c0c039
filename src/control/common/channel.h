// Channels as Longhaul wants them: a proxy of the environment is never used, a failed connection is
// tried again within a second, and messages may be as big as kMaxMessageBytes.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

namespace longhaul {

// Of one message in either direction; servers set it too.
constexpr int kMaxMessageBytes = 64 << 20;

// `target` is "host:port" or "unix:/path". Every channel has connections of its own, so that a new
// one starts without the back-off of an old one.
std::shared_ptr<grpc::Channel> make_channel(const std::string& target);

}  // namespace longhaul
