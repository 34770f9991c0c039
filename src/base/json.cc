#include "longhaul/base/json.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace longhaul {

std::string json_quote(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

JsonObject& JsonObject::set(std::string_view key, std::string_view value) {
  return set_raw(key, json_quote(value));
}

JsonObject& JsonObject::set(std::string_view key, bool value) {
  return set_raw(key, value ? "true" : "false");
}

JsonObject& JsonObject::set(std::string_view key, double value) {
  return set_raw(key, std::isfinite(value) ? nlohmann::json(value).dump() : "null");
}

JsonObject& JsonObject::set(std::string_view key, const std::vector<std::string>& values) {
  std::string list;
  for (const std::string& value : values) list += (list.empty() ? "" : ",") + json_quote(value);
  return set_raw(key, "[" + list + "]");
}

JsonObject& JsonObject::set_raw(std::string_view key, std::string_view json) {
  if (!body_.empty()) body_ += ',';
  body_ += json_quote(key);
  body_ += ':';
  body_ += json;
  return *this;
}

}  // namespace longhaul
