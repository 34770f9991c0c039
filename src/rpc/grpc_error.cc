#include "rpc/grpc_error.h"

#include <array>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

struct Pair {
  ErrorKind kind;
  grpc::StatusCode code;
};

// The first row of a kind is the code it becomes; every row maps back.
constexpr std::array kPairs = {
    Pair{ErrorKind::kInvalid, grpc::StatusCode::INVALID_ARGUMENT},
    Pair{ErrorKind::kInvalid, grpc::StatusCode::NOT_FOUND},
    Pair{ErrorKind::kUnavailable, grpc::StatusCode::UNAVAILABLE},
    Pair{ErrorKind::kDeadline, grpc::StatusCode::DEADLINE_EXCEEDED},
    Pair{ErrorKind::kPeerLost, grpc::StatusCode::ABORTED},
    Pair{ErrorKind::kPeerLost, grpc::StatusCode::CANCELLED},
    Pair{ErrorKind::kCorrupt, grpc::StatusCode::DATA_LOSS},
    Pair{ErrorKind::kStale, grpc::StatusCode::FAILED_PRECONDITION},
    Pair{ErrorKind::kInternal, grpc::StatusCode::INTERNAL},
    Pair{ErrorKind::kExhausted, grpc::StatusCode::RESOURCE_EXHAUSTED},
    Pair{ErrorKind::kDenied, grpc::StatusCode::PERMISSION_DENIED},
    Pair{ErrorKind::kDenied, grpc::StatusCode::UNAUTHENTICATED},
};

}  // namespace

Failure to_failure(const grpc::Status& status, std::string_view whom) {
  ErrorKind kind = ErrorKind::kInternal;
  for (const Pair& pair : kPairs) {
    if (pair.code == status.error_code()) kind = pair.kind;
  }
  // gRPC uses this code for a message that is too large as well. Trying that again is of no use, so
  // it is a fault of the call.
  if (kind == ErrorKind::kExhausted &&
      status.error_message().find("larger than max") != std::string::npos) {
    kind = ErrorKind::kInvalid;
  }
  return {kind, str_cat(whom, ": ", status.error_message())};
}

grpc::Status to_status(const Failure& failure) {
  for (const Pair& pair : kPairs) {
    if (pair.kind == failure.kind) return {pair.code, failure.message};
  }
  return {grpc::StatusCode::INTERNAL, failure.message};
}

ErrorKind error_kind_from(std::string_view text) {
  for (const Pair& pair : kPairs) {
    if (to_string(pair.kind) == text) return pair.kind;
  }
  return ErrorKind::kInternal;
}

}  // namespace longhaul
