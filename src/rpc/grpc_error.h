// gRPC's statuses become our failures here, and the other way round.
#pragma once

#include <grpcpp/support/status.h>

#include <string>
#include <string_view>

#include "longhaul/base/error.h"

namespace longhaul {

// `whom` names the address that was called: "master at 127.0.0.1:7700".
Failure to_failure(const grpc::Status& status, std::string_view whom);

grpc::Status to_status(const Failure& failure);

// The kind whose to_string() is `text`; kInternal for anything else.
ErrorKind error_kind_from(std::string_view text);

}  // namespace longhaul
