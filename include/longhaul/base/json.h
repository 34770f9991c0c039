// One flat JSON object on one line: reports, `-o json`, benchmark rows. Keys keep their order.
// (Reading JSON, and nested documents, are nlohmann's: include <nlohmann/json.hpp> in a .cc file.)
//
//   JsonObject().set("bench", "lossless").set("value", 1.18).str()
//   -> {"bench":"lossless","value":1.18}
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace longhaul {

class JsonObject {
 public:
  JsonObject& set(std::string_view key, std::string_view value);
  JsonObject& set(std::string_view key, const char* value) {
    return set(key, std::string_view(value));
  }
  JsonObject& set(std::string_view key, bool value);
  // Shortest text that reads back to the same double; NaN and infinities become null.
  JsonObject& set(std::string_view key, double value);
  template <typename Integer, std::enable_if_t<std::is_integral_v<Integer>, int> = 0>
  JsonObject& set(std::string_view key, Integer value) {
    return set_raw(key, std::to_string(value));
  }
  JsonObject& set(std::string_view key, const std::vector<std::string>& values);
  // `json` must be valid JSON already (a nested object, say).
  JsonObject& set_raw(std::string_view key, std::string_view json);

  std::string str() const { return "{" + body_ + "}"; }

 private:
  std::string body_;
};

// `text` in double quotes with JSON's escapes; bytes that are not UTF-8 become U+FFFD.
std::string json_quote(std::string_view text);

}  // namespace longhaul
