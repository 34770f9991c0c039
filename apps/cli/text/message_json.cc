#include "apps/cli/text/message_json.h"

#include <algorithm>
#include <map>
#include <string>

#include "apps/cli/text/json_text.h"

namespace longhaul::cli {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Json = nlohmann::ordered_json;

std::string key_of(const FieldDescriptor& field) {
  static const std::map<std::string, std::string> shorter = {
      {"worker_id", "worker"}, {"job_id", "job"}, {"failure_class", "class"}};
  const auto found = shorter.find(field.name());
  return found == shorter.end() ? field.name() : found->second;
}

// FAILURE_CLASS_EXIT_CODE of FailureClass is "exit code".
std::string word_of(const google::protobuf::EnumValueDescriptor& value) {
  const auto& all = *value.type();
  // What the first enumerator, ..._UNSPECIFIED, begins with is the enumeration's own.
  const std::string& first = all.value(0)->name();
  const size_t prefix = first.size() - std::min(first.size(), std::string("UNSPECIFIED").size());
  std::string word = value.name().substr(std::min(prefix, value.name().size()));
  for (char& letter : word) {
    if (letter == '_') letter = ' ';
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return word;
}

// One value of a field: the only one, or the one at `index`.
Json value_of(const Message& message, const FieldDescriptor& field, int index) {
  const auto& from = *message.GetReflection();
  const bool many = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return message_json(many ? from.GetRepeatedMessage(message, &field, index)
                               : from.GetMessage(message, &field));
    case FieldDescriptor::CPPTYPE_STRING:
      return many ? from.GetRepeatedString(message, &field, index)
                  : from.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return word_of(
          *(many ? from.GetRepeatedEnum(message, &field, index) : from.GetEnum(message, &field)));
    case FieldDescriptor::CPPTYPE_INT32:
      return many ? from.GetRepeatedInt32(message, &field, index) : from.GetInt32(message, &field);
    case FieldDescriptor::CPPTYPE_INT64:
      return many ? from.GetRepeatedInt64(message, &field, index) : from.GetInt64(message, &field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return many ? from.GetRepeatedUInt32(message, &field, index)
                  : from.GetUInt32(message, &field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return many ? from.GetRepeatedUInt64(message, &field, index)
                  : from.GetUInt64(message, &field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return many ? from.GetRepeatedDouble(message, &field, index)
                  : from.GetDouble(message, &field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return many ? from.GetRepeatedFloat(message, &field, index) : from.GetFloat(message, &field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return many ? from.GetRepeatedBool(message, &field, index) : from.GetBool(message, &field);
  }
  return nullptr;
}

Json field_json(const Message& message, const FieldDescriptor& field) {
  const auto& from = *message.GetReflection();
  if (field.is_map()) {
    Json map = Json::object();
    for (int i = 0; i < from.FieldSize(message, &field); ++i) {
      const Json entry = value_of(message, field, i);
      map[entry["key"].get<std::string>()] = entry["value"];
    }
    return map;
  }
  if (field.is_repeated()) {
    Json list = Json::array();
    for (int i = 0; i < from.FieldSize(message, &field); ++i) {
      list.push_back(value_of(message, field, i));
    }
    return list;
  }
  if (field.has_presence() && !from.HasField(message, &field)) return nullptr;
  return value_of(message, field, 0);
}

}  // namespace

Json message_json(const Message& message) {
  Json json = Json::object();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    json[key_of(field)] = field_json(message, field);
  }
  return json;
}

std::string json_document(const Json& fields) {
  Json whole = {{"schema", kJsonSchema}};
  whole.update(fields);
  // Output lines of a rank may hold any bytes; what is not UTF-8 becomes U+FFFD.
  return whole.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace longhaul::cli
