#include "longhaul/base/error.h"

namespace longhaul {

std::string_view to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return "invalid";
    case ErrorKind::kUnavailable:
      return "unavailable";
    case ErrorKind::kDeadline:
      return "deadline";
    case ErrorKind::kPeerLost:
      return "peer lost";
    case ErrorKind::kCorrupt:
      return "corrupt";
    case ErrorKind::kStale:
      return "stale";
    case ErrorKind::kInternal:
      return "internal";
    case ErrorKind::kExhausted:
      return "exhausted";
    case ErrorKind::kDenied:
      return "denied";
  }
  return "unknown";
}

}  // namespace longhaul
