#include "apps/cli/commands/array_request.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iostream>
#include <memory>

#include "apps/cli/text/json_values.h"
#include "cluster/arrays/array_spec.h"
#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

namespace fs = std::filesystem;

using NextInput = std::function<Result<bool>(std::string*)>;

// No input is longer (JobClient::submit_array() says so for all of them).
constexpr size_t kLongestLine = size_t{15} << 20;
// JSON is read as a whole into memory; lines are read one by one, so their number has no such
// limit.
constexpr size_t kLongestJson = size_t{256} << 20;

// The file, or stdin for "-", which is not ours to close.
Result<std::shared_ptr<std::istream>> open_input(const std::string& path) {
  if (path == "-") return std::shared_ptr<std::istream>(&std::cin, [](std::istream*) {});
  auto file = std::make_shared<std::ifstream>(path, std::ios::binary);
  if (!*file || fs::is_directory(path)) {
    return Failure{ErrorKind::kInvalid, path + ": no such file, or not readable"};
  }
  return std::shared_ptr<std::istream>(std::move(file));
}

NextInput lines_of(std::shared_ptr<std::istream> stream, const std::string& path) {
  return [stream = std::move(stream), path, number = 0](std::string* line) mutable -> Result<bool> {
    line->clear();
    ++number;
    int letter = stream->get();
    const bool some = letter != std::istream::traits_type::eof();
    for (; letter != '\n' && stream->good(); letter = stream->get()) {
      if (line->size() == kLongestLine) {
        return Failure{ErrorKind::kInvalid, str_cat(path, ": line ", number, " is longer than ",
                                                    format_bytes(kLongestLine))};
      }
      line->push_back(static_cast<char>(letter));
    }
    if (stream->bad()) {
      return Failure{ErrorKind::kInvalid, str_cat(path, ": line ", number, " cannot be read")};
    }
    if (line->ends_with('\r')) line->pop_back();
    return some;
  };
}

NextInput one_by_one(std::vector<std::string> inputs) {
  return [inputs = std::move(inputs), at = size_t{0}](std::string* input) mutable -> Result<bool> {
    if (at == inputs.size()) return false;
    *input = std::move(inputs[at++]);
    return true;
  };
}

Result<std::string> all_of(std::istream& stream, const std::string& path) {
  std::string text;
  std::array<char, 65'536> piece{};
  while (stream.read(piece.data(), piece.size()) || stream.gcount() > 0) {
    text.append(piece.data(), static_cast<size_t>(stream.gcount()));
    if (text.size() > kLongestJson) {
      return Failure{ErrorKind::kInvalid,
                     str_cat(path, ": is longer than ", format_bytes(kLongestJson),
                             "; --each-line takes any number of inputs")};
    }
  }
  if (stream.bad()) return Failure{ErrorKind::kInvalid, path + ": cannot be read"};
  return text;
}

Result<std::vector<std::string>> values_of(std::istream& stream, const std::string& path) {
  const Result<std::string> text = all_of(stream, path);
  if (!text) return text.failure();
  Result<std::vector<std::string>> values = json_array_values(*text);
  if (values) return values;
  return Failure{values.failure().kind,
                 str_cat(path, ": holds no JSON array: ", values.failure().message)};
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

Result<NextInput> inputs_of(const ArrayRequest& request, const fs::path& here) {
  if (!request.each_file.empty()) {
    Result<std::vector<std::string>> files = files_of(here / request.each_file);
    if (!files) return files.failure();
    return one_by_one(std::move(*files));
  }
  const bool lines = !request.each_line.empty();
  Result<std::shared_ptr<std::istream>> stream =
      open_input(lines ? request.each_line : request.from_json);
  if (!stream) return stream.failure();
  if (lines) return lines_of(std::move(*stream), request.each_line);
  Result<std::vector<std::string>> values = values_of(**stream, request.from_json);
  if (!values) return values.failure();
  return one_by_one(std::move(*values));
}

}  // namespace

Result<JobSpec> make_array_spec(const ArrayRequest& request, const JobRequest& job,
                                const fs::path& here, const Variables& environment) {
  Result<JobSpec> spec = make_job_spec(job, here, environment);
  if (!spec) return spec;
  spec->array = request.array;
  spec->array->max_result_bytes = request.max_result_mib << 20;
  const auto has_braces = [](const std::string& word) { return word.find("{}") != word.npos; };
  if (request.array.warm && std::ranges::any_of(spec->command, has_braces)) {
    return Failure{ErrorKind::kInvalid,
                   "with --warm the program reads its inputs from stdin, a line each: '{}' has no "
                   "meaning in its arguments"};
  }
  return spec;
}

Result<ArrayRequested> make_array(const ArrayRequest& request, const fs::path& here,
                                  const Variables& environment) {
  const auto sources = {!request.indices.empty(), !request.each_line.empty(),
                        !request.from_json.empty(), !request.each_file.empty()};
  if (std::count(sources.begin(), sources.end(), true) != 1) {
    return Failure{ErrorKind::kInvalid,
                   "name the tasks with one of --array 0-99, --each-line FILE, --from-json FILE, "
                   "--each-file FOLDER"};
  }
  Result<JobSpec> spec = make_array_spec(request, request.job, here, environment);
  if (!spec) return spec.failure();
  ArrayRequested made{std::move(*spec), nullptr};
  ArrayJobSpec& array = *made.spec.array;
  if (!request.indices.empty()) {
    const Result<ArraySpec> indices = ArraySpec::parse(request.indices);
    if (!indices) return indices.failure();
    array.tasks = indices->size();
    array.indices = indices->text();
    array.max_at_once = indices->max_at_once().value_or(0);
    return made;
  }
  Result<NextInput> next = inputs_of(request, here);
  if (!next) return next.failure();
  made.next_input = std::move(*next);
  return made;
}

}  // namespace longhaul::cli
