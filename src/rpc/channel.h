// Channels as Longhaul wants them: a proxy of the environment is never used, a failed connection is
// tried again within a second, and messages may be as big as kMaxMessageBytes.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "longhaul/base/clock.h"
#include "rpc/credentials.h"

namespace longhaul {

// Of one message in either direction; servers set it too.
constexpr int kMaxMessageBytes = 64 << 20;

// `target` is "host:port" or "unix:/path". Every channel has connections of its own, so that a new
// one starts without the back-off of an old one. `silence` above 0: while a call is open the other
// side is asked for a sign of life (an HTTP/2 ping, answered by its gRPC), and a connection on
// which none has come for so long is dead, with all its calls.
std::shared_ptr<grpc::Channel> make_channel(const std::string& target,
                                            const Credentials& credentials,
                                            milliseconds silence = milliseconds(0));

}  // namespace longhaul
