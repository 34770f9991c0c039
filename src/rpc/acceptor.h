// Takes the connections of a gRPC server's clients. gRPC's own listener stops for ever at the first
// accept() that fails, most likely because no descriptor is left; this one goes on as soon as it
// can. It also leaves a reserve, so that a flood of connections takes no descriptor that files and
// the database need: a connection that would get one of the reserve is closed at once.
//
// Thread safety: none. Connections are accepted, and handed to gRPC, on a thread of its own
// (lh-accept).
#pragma once

#include <grpcpp/server_builder.h>

#include <memory>
#include <string>

#include "base/thread.h"
#include "base/unique_fd.h"
#include "longhaul/base/result.h"
#include "rpc/credentials.h"

namespace longhaul {

// A listening stream socket in the file system. Errors: kUnavailable.
Result<UniqueFd> listen_unix(const std::string& path);

class Acceptor {
 public:
  // Of every process that listens: for its files, its database, its own connections.
  static constexpr int kReservedDescriptors = 64;

  // Where the connections go: ServerBuilder gives one for each set of credentials.
  using Server = std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor>;
  static Server add_to(grpc::ServerBuilder& builder, const Credentials& credentials);

  // After the server was started. `who` is for the log: "master".
  Acceptor(std::string who, UniqueFd listener, Server server);
  // Takes no more; what was taken stays with the server. Destroyed before the server is shut down,
  // which must be handed no connection after that.
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  void run();
  bool take_one();
  void refuse(UniqueFd connection);
  void complain(const std::string& why);

  const std::string who_;
  const UniqueFd listener_;
  const UniqueFd stop_;
  const Server server_;
  std::string last_complaint_;
  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul
