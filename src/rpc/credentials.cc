#include "rpc/credentials.h"

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

namespace longhaul {

std::shared_ptr<grpc::ChannelCredentials> Credentials::dialing() const {
  return grpc::InsecureChannelCredentials();
}

std::shared_ptr<grpc::ServerCredentials> Credentials::listening() const {
  return grpc::InsecureServerCredentials();
}

}  // namespace longhaul
