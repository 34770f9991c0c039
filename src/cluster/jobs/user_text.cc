#include "cluster/jobs/user_text.h"

#include <algorithm>
#include <array>
#include <climits>
#include <cstdint>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

Failure invalid(std::string_view what, std::string_view why) {
  return {ErrorKind::kInvalid, str_cat(what, ": ", why)};
}

// How many bytes follow a first one; nullopt: it begins no character.
std::optional<size_t> followers_of(unsigned char first) {
  if (first < 0x80) return 0;
  if (first >= 0xC2 && first <= 0xDF) return 1;
  if (first >= 0xE0 && first <= 0xEF) return 2;
  if (first >= 0xF0 && first <= 0xF4) return 3;
  return std::nullopt;
}

// Takes the first character off `text`; nullopt: what is there is not UTF-8.
std::optional<char32_t> take_character(std::string_view* text) {
  const auto first = static_cast<unsigned char>(text->front());
  const std::optional<size_t> followers = followers_of(first);
  if (!followers || text->size() <= *followers) return std::nullopt;
  constexpr std::array<unsigned, 4> kFirstBits = {0x7F, 0x1F, 0x0F, 0x07};
  char32_t character = first & kFirstBits[*followers];
  for (size_t i = 1; i <= *followers; ++i) {
    const auto byte = static_cast<unsigned char>((*text)[i]);
    if ((byte & 0xC0U) != 0x80U) return std::nullopt;
    character = character << 6 | (byte & 0x3FU);
  }
  text->remove_prefix(*followers + 1);
  // A longer form than a character needs is not UTF-8: it would be a second way to write the same
  // name.
  constexpr std::array<char32_t, 4> kLeast = {0, 0x80, 0x800, 0x10000};
  const bool surrogate = character >= 0xD800 && character <= 0xDFFF;
  if (character < kLeast[*followers] || character > 0x10FFFF || surrogate) return std::nullopt;
  return character;
}

// Nothing to see, or something that changes how the rest is seen.
bool is_hidden(char32_t character) {
  constexpr std::array<std::pair<char32_t, char32_t>, 9> kHidden = {{
      {0x0, 0x1F},        // control characters
      {0x7F, 0x9F},       // likewise
      {0xAD, 0xAD},       // soft hyphen
      {0x061C, 0x061C},   // direction of writing
      {0x200B, 0x200F},   // no width, direction
      {0x2028, 0x202E},   // separators of lines, direction
      {0x2060, 0x206F},   // no width, direction
      {0xFEFF, 0xFEFF},   // byte order
      {0xE0000, 0xE0FFF}  // tags
  }};
  return std::ranges::any_of(kHidden, [character](const auto& range) {
    return character >= range.first && character <= range.second;
  });
}

bool is_job_id(std::string_view name) {
  return name.size() > 1 && name.front() == 'j' &&
         name.find_first_not_of("0123456789", 1) == std::string_view::npos;
}

std::optional<Failure> why_no_variable(const std::string& name, const std::string& value) {
  if (name.empty() || name.find('=') != std::string::npos) {
    return invalid("a variable", "its name is empty or holds '='");
  }
  if (const auto bad = why_no_argument("the name of a variable", name)) return bad;
  if (const auto bad = why_no_argument(str_cat("the variable ", name), value)) return bad;
  if (name.size() + 1 + value.size() <= kMaxArgumentBytes) return std::nullopt;
  return invalid(
      str_cat("the variable ", name),
      str_cat("with its value it has ", name.size() + 1 + value.size(),
              " bytes, and Linux gives a program ", kMaxArgumentBytes, " in one at most"));
}

std::optional<Failure> why_no_command(const std::vector<std::string>& command) {
  for (size_t word = 0; word < command.size(); ++word) {
    const std::string what =
        word == 0 ? "the program" : str_cat("argument ", word, " of the program");
    if (const auto bad = why_no_argument(what, command[word])) return bad;
    if (command[word].size() > kMaxArgumentBytes) {
      return invalid(what,
                     str_cat("it has ", command[word].size(), " bytes, and Linux gives a program ",
                             kMaxArgumentBytes, " in one at most; put it into a file"));
    }
  }
  return std::nullopt;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    if (!take_character(&text)) return false;
  }
  return true;
}

}  // namespace

std::optional<Failure> why_no_name(std::string_view what, std::string_view name,
                                   size_t most_bytes) {
  if (name.empty()) return invalid(what, "it is empty");
  if (name.size() > most_bytes) {
    return invalid(what, str_cat("it has ", name.size(), " bytes, and may have ", most_bytes));
  }
  for (std::string_view rest = name; !rest.empty();) {
    const std::optional<char32_t> character = take_character(&rest);
    if (!character) return invalid(what, "it is not UTF-8");
    if (is_hidden(*character)) {
      return invalid(what, "it holds a control character, or another one that is not shown");
    }
  }
  if (name.front() == ' ' || name.back() == ' ') {
    return invalid(what, "it begins or ends with a blank");
  }
  return std::nullopt;
}

std::optional<Failure> why_no_job_name(std::string_view name) {
  constexpr std::string_view kWhat = "the name of the job";
  if (name.empty()) return std::nullopt;
  if (auto bad = why_no_name(kWhat, name)) return bad;
  if (name == "last") return invalid(kWhat, "'last' is how commands call the newest job");
  if (is_job_id(name)) return invalid(kWhat, str_cat("'", name, "' is how jobs are numbered"));
  if (name.front() == '-') return invalid(kWhat, "it begins like a flag");
  return std::nullopt;
}

std::optional<Failure> why_no_argument(std::string_view what, std::string_view text) {
  const size_t nul = text.find('\0');
  if (nul == std::string_view::npos) return std::nullopt;
  return invalid(what, str_cat("byte ", nul + 1,
                               " is NUL, and neither an argument nor a variable of a program can "
                               "hold one; give it a file"));
}

std::optional<Failure> why_unusable_text(const JobSpec& spec) {
  if (auto bad = why_no_job_name(spec.name)) return bad;
  if (auto bad = why_no_command(spec.command)) return bad;
  size_t bytes = 0;
  for (const std::string& word : spec.command) bytes += word.size() + 1;
  for (const auto& [name, value] : spec.env) {
    if (auto bad = why_no_variable(name, value)) return bad;
    // A protobuf string must be UTF-8. Values may be any bytes.
    if (!is_utf8(name)) return invalid("the name of a variable", "it is not UTF-8");
    bytes += name.size() + value.size() + 2;
  }
  if (bytes > kMaxArgumentsBytes) {
    return invalid("the command",
                   str_cat("its arguments and variables have ", bytes,
                           " bytes, and Linux gives a program ", kMaxArgumentsBytes, " at most"));
  }
  if (auto bad = why_no_argument("the working folder", spec.working_directory)) return bad;
  if (spec.working_directory.size() >= PATH_MAX) {
    return invalid("the working folder", "its path is longer than any that Linux takes");
  }
  if (spec.array && !is_utf8(spec.array->indices)) {
    return invalid("the indices of the array", "they are not text");
  }
  return std::nullopt;
}

}  // namespace longhaul
