#include "rpc/server_limits.h"

#include <grpcpp/resource_quota.h>
#include <malloc.h>

#include "rpc/channel.h"

namespace longhaul {
namespace {

constexpr int kHeaderBytes = 8 << 10;
// gRPC disconnects a client that keeps pinging more often than this. Ours ping after a third of
// `silence`, which is at least 4 s (control/client/job_client.h).
constexpr int kPingEveryMs = 1000;
// From here on malloc_trim(), which looks at the whole heap, is worth its time.
constexpr size_t kMuchFree = size_t{64} << 20;

}  // namespace

void set_limits(grpc::ServerBuilder& builder, const ServerLimits& limits) {
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, limits.streams_per_connection);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kHeaderBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingEveryMs);
  grpc::ResourceQuota quota("longhaul");
  quota.Resize(limits.memory_bytes);
  builder.SetResourceQuota(quota);
}

void give_free_memory_back() {
  if (mallinfo2().fordblks > kMuchFree) ::malloc_trim(0);
}

}  // namespace longhaul
