// A protobuf message as JSON, by reflection: a field that is added to a message is in every
// document that shows it. Unlike protobuf's own JSON, which knows no bytes that are text: bytes and
// strings are text, whole numbers of any size are numbers, enumerators are words ("worker lost"),
// keys are the fields' names, and whatever is optional and absent is null. A few keys are shorter
// than the fields (worker_id is "worker", job_id "job").
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>
#include <string>

namespace longhaul::cli {

nlohmann::ordered_json message_json(const google::protobuf::Message& message);

// One line that `-o json` prints: the version of what is shown, and the fields.
std::string json_document(const nlohmann::ordered_json& fields);

}  // namespace longhaul::cli
