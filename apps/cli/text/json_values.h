// The values of a JSON array, each as its own text: no number is rounded, no key sorted or dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "longhaul/base/result.h"

namespace longhaul::cli {

// How deep arrays and objects may lie in each other.
constexpr size_t kDeepestJson = 1000;

// Of a string what it says; of any other value its text as it stands, without the white space
// between its tokens. `text` is one array in UTF-8 (RFC 8259). Errors: kInvalid, saying in which
// byte.
Result<std::vector<std::string>> json_array_values(std::string_view text);

}  // namespace longhaul::cli
