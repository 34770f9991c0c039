#include "base/check.h"

namespace longhaul::detail {

void check_failed(const char* expression, const CheckResult& result, const char* file, int line) {
  throw BugError(str_cat("check failed: ", expression, result.values, " at ", file, ":", line));
}

}  // namespace longhaul::detail
