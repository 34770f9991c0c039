#include "rpc/channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include "rpc/grpc_runtime.h"

namespace longhaul {
namespace {

// A ping is sent when a third of the allowed silence is over; the rest is for its answer.
constexpr int kAskAfterPart = 3;
// A dial that is not answered within this time is given up and done again, because whatever
// swallowed its packets may be over.
constexpr int kDialMs = 10'000;

void ask_for_life(grpc::ChannelArguments& arguments, milliseconds silence) {
  const auto silence_ms = static_cast<int>(silence.count());
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, silence_ms / kAskAfterPart);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, silence_ms - silence_ms / kAskAfterPart);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // as many as it takes
}

}  // namespace

std::shared_ptr<grpc::Channel> make_channel(const std::string& target,
                                            const Credentials& credentials, milliseconds silence) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // gRPC's own limit is two minutes. A master or worker that is started again is back within
  // seconds, and should be found at once.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kDialMs);
  if (silence.count() > 0) ask_for_life(arguments, silence);
  for (const char* feature : kUnusedFeatures) arguments.SetInt(feature, 0);
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  return grpc::CreateCustomChannel(target, credentials.dialing(), arguments);
}

}  // namespace longhaul
