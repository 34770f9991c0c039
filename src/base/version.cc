#include "longhaul/base/version.h"

namespace longhaul {

const char* version() {
  return LONGHAUL_VERSION;
}

}  // namespace longhaul
