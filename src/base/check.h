// LONGHAUL_CHECK(a == b): a bug throws, with both values in its message. For broken promises
// inside the program only; what may happen in the world is a Result (result.h).
#pragma once

#include <string>
#include <utility>

#include "longhaul/base/error.h"
#include "longhaul/base/strings.h"

namespace longhaul {

// Thrown by LONGHAUL_CHECK. Its kind is kInternal.
class BugError : public Error {
 public:
  explicit BugError(const std::string& message) : Error(ErrorKind::kInternal, message) {}
};

namespace detail {

// Holds the verdict of one comparison and, when it failed, how its two sides print.
struct CheckResult {
  bool passed;
  std::string values;
};

// Captures the left side of the comparison inside LONGHAUL_CHECK.
template <typename Left>
struct CheckLeft {
  const Left& left;

#define LONGHAUL_CHECK_OPERATOR(op)                                              \
  template <typename Right>                                                      \
  CheckResult operator op(const Right& right) const {                            \
    const bool passed = left op right;                                           \
    return {passed, passed ? "" : str_cat(" (", left, " " #op " ", right, ")")}; \
  }
  LONGHAUL_CHECK_OPERATOR(==)
  LONGHAUL_CHECK_OPERATOR(!=)
  LONGHAUL_CHECK_OPERATOR(<)
  LONGHAUL_CHECK_OPERATOR(<=)
  LONGHAUL_CHECK_OPERATOR(>)
  LONGHAUL_CHECK_OPERATOR(>=)
#undef LONGHAUL_CHECK_OPERATOR

  operator CheckResult() const { return {static_cast<bool>(left), ""}; }
};

struct CheckStart {
  template <typename Left>
  CheckLeft<Left> operator<<(const Left& left) const {
    return {left};
  }
};

[[noreturn]] void check_failed(const char* expression, const CheckResult& result, const char* file,
                               int line);

}  // namespace detail
}  // namespace longhaul

#if defined(__clang__)
#define LONGHAUL_CHECK_QUIET       \
  _Pragma("clang diagnostic push") \
      _Pragma("clang diagnostic ignored \"-Woverloaded-shift-op-parentheses\"")
#define LONGHAUL_CHECK_LOUD _Pragma("clang diagnostic pop")
#else
#define LONGHAUL_CHECK_QUIET
#define LONGHAUL_CHECK_LOUD
#endif

#define LONGHAUL_CHECK(...)                                                                        \
  do {                                                                                             \
    LONGHAUL_CHECK_QUIET                                                                           \
    const ::longhaul::detail::CheckResult longhaul_check_result = ::longhaul::detail::CheckStart() \
                                                                  << __VA_ARGS__;                  \
    LONGHAUL_CHECK_LOUD                                                                            \
    if (!longhaul_check_result.passed)                                                             \
      ::longhaul::detail::check_failed(#__VA_ARGS__, longhaul_check_result, __FILE__, __LINE__);   \
  } while (false)
