// What an emulation did, for people and for programs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/linkem/router.h"

namespace longhaul::linkem {

struct Report {
  uint64_t seed = 0;
  int exit_code = 0;
  RouterReport router;
  std::vector<uint64_t> dropped_at_device;  // by host: before the model saw them
};

// A table, one line a link; then whatever went wrong outside the model.
std::string report_as_text(const Report& report);

// One line; docs/linkem.md explains the fields.
std::string report_as_json(const Report& report);

}  // namespace longhaul::linkem
