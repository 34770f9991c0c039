// Lists of parameter names that a user gave, most often empty.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace longhaul {

inline bool is_among(const std::vector<std::string>& names, const std::string& name) {
  return !names.empty() && std::find(names.begin(), names.end(), name) != names.end();
}

inline std::vector<std::string> joined(std::vector<std::string> a,
                                       const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace longhaul
