#include "rpc/credentials.h"

namespace longhaul {

std::shared_ptr<grpc::ChannelCredentials> channel_credentials() {
  return grpc::InsecureChannelCredentials();
}

std::shared_ptr<grpc::ServerCredentials> server_credentials() {
  return grpc::InsecureServerCredentials();
}

}  // namespace longhaul
