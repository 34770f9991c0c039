// Which Longhaul this is.
#pragma once

namespace longhaul {

// "0.1.0".
const char* version();

}  // namespace longhaul
