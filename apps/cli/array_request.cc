#include "apps/cli/array_request.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "longhaul/base/strings.h"
#include "longhaul/membership/array_spec.h"

namespace longhaul::cli {
namespace {

namespace fs = std::filesystem;

// Calls `read` with the file, or with stdin for "-".
template <typename Read>
Result<std::vector<std::string>> with_file(const std::string& path, Read read) {
  if (path == "-") return read(std::cin);
  std::ifstream file(path, std::ios::binary);
  if (!file || fs::is_directory(path)) {
    return Failure{ErrorKind::kInvalid, path + ": no such file, or not readable"};
  }
  return read(file);
}

Result<std::vector<std::string>> lines_of(std::istream& stream) {
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(std::move(line));
  }
  return lines;
}

Result<std::vector<std::string>> values_of(std::istream& stream, const std::string& path) {
  const nlohmann::json list = nlohmann::json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return Failure{ErrorKind::kInvalid, path + ": holds no JSON array"};
  std::vector<std::string> values;
  for (const nlohmann::json& value : list) {
    values.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  }
  return values;
}

Result<std::vector<std::string>> files_of(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_regular_file()) files.push_back(entry.path().lexically_normal().string());
  }
  if (error) {
    return Failure{ErrorKind::kInvalid, str_cat(folder.string(), ": ", error.message())};
  }
  std::sort(files.begin(), files.end());
  return files;
}

Result<std::vector<std::string>> inputs_of(const ArrayRequest& request, const fs::path& here) {
  if (!request.each_line.empty()) return with_file(request.each_line, lines_of);
  if (!request.from_json.empty()) {
    return with_file(request.from_json,
                     [&](std::istream& stream) { return values_of(stream, request.from_json); });
  }
  return files_of(here / request.each_file);
}

}  // namespace

Result<ArrayRequested> make_array(const ArrayRequest& request, const fs::path& here,
                                  const ReadEnvironment& environment) {
  const auto sources = {!request.indices.empty(), !request.each_line.empty(),
                        !request.from_json.empty(), !request.each_file.empty()};
  if (std::count(sources.begin(), sources.end(), true) != 1) {
    return Failure{ErrorKind::kInvalid,
                   "name the tasks with one of --array 0-99, --each-line FILE, --from-json FILE, "
                   "--each-file FOLDER"};
  }
  Result<JobSpec> spec = make_job_spec(request.job, here, environment);
  if (!spec) return spec.failure();
  ArrayRequested made{std::move(*spec), {}};
  ArrayJobSpec& array = made.spec.array.emplace();
  array.batch = request.batch;
  array.max_attempts = request.max_attempts;
  array.max_oom_attempts = request.max_oom_attempts;
  array.max_preemptions = request.max_preemptions;
  array.max_result_bytes = request.max_result_mib << 20;
  if (!request.indices.empty()) {
    const Result<ArraySpec> indices = ArraySpec::parse(request.indices);
    if (!indices) return indices.failure();
    array.tasks = indices->size();
    array.indices = indices->text();
    array.max_at_once = indices->max_at_once().value_or(0);
    return made;
  }
  Result<std::vector<std::string>> inputs = inputs_of(request, here);
  if (!inputs) return inputs.failure();
  if (inputs->empty()) return Failure{ErrorKind::kInvalid, "there is not one input"};
  if (inputs->size() > kMaxTasks) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("an array has ", kMaxTasks, " tasks at most, not ", inputs->size())};
  }
  array.tasks = static_cast<TaskIndex>(inputs->size());
  made.inputs = std::move(*inputs);
  return made;
}

}  // namespace longhaul::cli
