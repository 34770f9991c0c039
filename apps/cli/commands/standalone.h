// `longhaul run --standalone`: a master and one worker inside this process, on a private loopback
// port. The job takes the very path that it takes through daemons.
#pragma once

#include <memory>
#include <string>

#include "longhaul/base/result.h"

namespace longhaul::cli {

// Destruction stops the ranks, the worker and the master, and removes what they left on disk.
class Standalone {
 public:
  virtual ~Standalone() = default;
  // Where a JobClient reaches the master.
  virtual const std::string& address() const = 0;
};

// Ready for a job of `slots` ranks when it returns.
Result<std::unique_ptr<Standalone>> start_standalone(int slots);

}  // namespace longhaul::cli
