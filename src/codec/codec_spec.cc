#include "longhaul/codec/codec_spec.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <system_error>

#include "base/check.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using Kind = CodecSpec::Kind;
using Stage = CodecSpec::Stage;
using Rounding = CodecSpec::Rounding;

constexpr uint32_t kMinBlock = 64;    // the quantizer's lanes (quantize.h)
constexpr uint32_t kMaxBlock = 4096;  // its largest block
constexpr float kMinStep = 1.0F / 32;
constexpr float kMaxStep = 8;

// One row per codec: its defaults, and which options it has. A default of zero block or step means
// that there is no such option.
struct Row {
  const char* name;
  CodecSpec defaults;
  bool has_stage;
  bool has_rounding;
};

constexpr Row kRows[] = {
    {"none", {Kind::kNone}, false, false},
    {"zstd", {Kind::kZstd}, false, false},
    {"lossless", {Kind::kLossless}, false, false},
    {"bf16", {Kind::kBf16}, true, true},
    {"fp16", {Kind::kFp16}, true, false},
    {"int8", {Kind::kInt8, Stage::kPacked, Rounding::kNearest, 1024}, true, true},
    {"rms", {Kind::kRms, Stage::kRice, Rounding::kNearest, 256, 0.5F}, true, true},
    {"auto", {Kind::kAuto, Stage::kPacked, Rounding::kNearest, 0, 0, 0, 0.2F}, false, false},
};

constexpr std::array<const char*, 3> kStages = {"packed", "rice", "huffman"};
constexpr std::array<const char*, 2> kRoundings = {"nearest", "stochastic"};

const Row* row_of(Kind kind) {
  const Row* found = std::find_if(std::begin(kRows), std::end(kRows),
                                  [kind](const Row& row) { return row.defaults.kind == kind; });
  return found == std::end(kRows) ? nullptr : found;
}

std::vector<std::string> options_of(const Row& row) {
  std::vector<std::string> options;
  if (row.defaults.step > 0) options.insert(options.end(), {"step", "result"});
  if (row.defaults.block > 0) options.emplace_back("block");
  if (row.defaults.error > 0) options.emplace_back("error");
  if (row.has_stage) options.emplace_back("stage");
  if (row.has_rounding) options.emplace_back("rounding");
  return options;
}

Failure invalid(std::string message) {
  return {ErrorKind::kInvalid, std::move(message)};
}

std::string did_you_mean(std::string_view text, const std::vector<std::string>& candidates) {
  const std::string near = closest_match(text, candidates);
  return near.empty() ? "" : str_cat(", did you mean '", near, "'?");
}

// The shortest text that reads back as the same float.
std::string number(float value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end.ptr};
}

template <typename Number>
bool read_number(std::string_view text, Number& value) {
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  return end.ec == std::errc() && end.ptr == text.data() + text.size();
}

bool block_in_range(uint32_t block) {
  return std::has_single_bit(block) && block >= kMinBlock && block <= kMaxBlock;
}

bool error_in_range(float error) {
  return error >= 0 && error <= 1;
}

bool step_in_range(float step) {
  return step >= kMinStep && step <= kMaxStep;
}

Result<void> set_block(std::string_view value, CodecSpec& spec) {
  if (read_number(value, spec.block) && block_in_range(spec.block)) return {};
  return invalid(
      str_cat("block=", value, " is not a power of two from ", kMinBlock, " to ", kMaxBlock));
}

Result<void> set_step(std::string_view name, std::string_view value, float& step) {
  if (read_number(value, step) && step_in_range(step)) return {};
  return invalid(str_cat(name, "=", value, " is not a number from ", number(kMinStep), " to ",
                         number(kMaxStep), " (times the block's RMS)"));
}

Result<void> set_error(std::string_view value, CodecSpec& spec) {
  if (read_number(value, spec.error) && error_in_range(spec.error)) return {};
  return invalid(
      str_cat("error=", value, " is not a number from 0 to 1 (times the gradient's RMS)"));
}

template <typename Enum, size_t kCount>
Result<void> set_word(const char* option, std::string_view value,
                      const std::array<const char*, kCount>& words, Enum& field) {
  for (size_t i = 0; i < kCount; ++i) {
    if (value != words[i]) continue;
    field = static_cast<Enum>(i);
    return {};
  }
  const std::vector<std::string> all(words.begin(), words.end());
  return invalid(str_cat(option, "=", value, " does not exist", did_you_mean(value, all), " (",
                         option, ": ", join(all, ", "), ")"));
}

Result<void> set_option(const Row& row, std::string_view name, std::string_view value,
                        CodecSpec& spec) {
  const std::vector<std::string> options = options_of(row);
  if (std::find(options.begin(), options.end(), name) == options.end()) {
    return invalid(options.empty() ? str_cat("it has no options, not '", name, "'")
                                   : str_cat("no option '", name, "'", did_you_mean(name, options),
                                             " (options: ", join(options, ", "), ")"));
  }
  if (name == "block") return set_block(value, spec);
  if (name == "step") return set_step(name, value, spec.step);
  if (name == "result") return set_step(name, value, spec.result);
  if (name == "error") return set_error(value, spec);
  if (name == "stage") return set_word("stage", value, kStages, spec.stage);
  return set_word("rounding", value, kRoundings, spec.rounding);
}

Result<CodecSpec> parse_options(const Row& row, std::string_view text) {
  CodecSpec spec = row.defaults;
  std::vector<std::string> seen;
  for (const std::string& option : split(text, ',')) {
    const size_t equals = option.find('=');
    if (equals == std::string::npos) {
      return invalid(str_cat("'", option, "' is not NAME=VALUE"));
    }
    const std::string name = option.substr(0, equals);
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
      return invalid(str_cat("option '", name, "' is given twice"));
    }
    seen.push_back(name);
    const Result<void> set =
        set_option(row, name, std::string_view(option).substr(equals + 1), spec);
    if (!set) return set.failure();
  }
  // "as the first leg" has one form, so that equal specs compare equal.
  if (spec.result == spec.step) spec.result = 0;
  return spec;
}

}  // namespace

Result<CodecSpec> CodecSpec::parse(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const Row& row : kRows) {
    if (name != row.name) continue;
    if (colon == std::string_view::npos) return row.defaults;
    Result<CodecSpec> spec = parse_options(row, text.substr(colon + 1));
    if (spec) return spec;
    return invalid(str_cat("codec '", text, "': ", spec.failure().message));
  }
  return invalid(str_cat("unknown codec '", name, "'", did_you_mean(name, names()),
                         " (codecs: ", join(names(), ", "), ")"));
}

CodecSpec CodecSpec::of(Kind kind) {
  const Row* row = row_of(kind);
  LONGHAUL_CHECK(row != nullptr);
  return row->defaults;
}

std::vector<std::string> CodecSpec::names() {
  std::vector<std::string> all;
  for (const Row& row : kRows) all.emplace_back(row.name);
  return all;
}

bool CodecSpec::valid() const {
  const Row* row = row_of(kind);
  if (row == nullptr) return false;
  const CodecSpec& defaults = row->defaults;
  return (defaults.block > 0 ? block_in_range(block) : block == 0) &&
         (defaults.step > 0 ? step_in_range(step) : step == 0) &&
         (result == 0 || (defaults.step > 0 && step_in_range(result) && result != step)) &&
         (defaults.error > 0 ? error_in_range(error) : error == 0) &&
         (row->has_stage ? stage <= Stage::kHuffman : stage == Stage::kPacked) &&
         (row->has_rounding ? rounding <= Rounding::kStochastic : rounding == Rounding::kNearest);
}

CodecSpec CodecSpec::second_leg() const {
  CodecSpec leg = *this;
  if (result > 0) leg.step = result;
  leg.result = 0;
  return leg;
}

std::string CodecSpec::str() const {
  const Row* row = row_of(kind);
  if (row == nullptr) return str_cat("codec ", static_cast<int>(kind));
  std::vector<std::string> options;
  if (row->defaults.step > 0) options.push_back(str_cat("step=", number(step)));
  if (result > 0) options.push_back(str_cat("result=", number(result)));
  if (row->defaults.block > 0) options.push_back(str_cat("block=", block));
  if (row->defaults.error > 0) options.push_back(str_cat("error=", number(error)));
  if (stage != row->defaults.stage) {
    options.push_back(str_cat("stage=", kStages[static_cast<size_t>(stage) % kStages.size()]));
  }
  if (rounding != row->defaults.rounding) {
    options.push_back(
        str_cat("rounding=", kRoundings[static_cast<size_t>(rounding) % kRoundings.size()]));
  }
  return options.empty() ? row->name : str_cat(row->name, ":", join(options, ","));
}

}  // namespace longhaul
