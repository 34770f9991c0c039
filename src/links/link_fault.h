// Why an operation on a link ended without its bytes.
#pragma once

#include <functional>
#include <string>

#include "longhaul/agent/ids.h"
#include "longhaul/base/error.h"

namespace longhaul {

struct LinkFault {
  ErrorKind kind = ErrorKind::kPeerLost;
  Rank peer = -1;       // who is to blame; -1: nobody
  std::string message;  // "rank 2 is gone: its connection closed"
};

// Called on the thread of the links, which must not be made to wait; null: all is well. Whoever is
// called may send and receive again, at once.
using Sent = std::function<void(const LinkFault* fault)>;
// `bytes`: how many came.
using Received = std::function<void(const LinkFault* fault, size_t bytes)>;

}  // namespace longhaul
