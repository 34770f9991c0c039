#include "examples/char_gpt/options.h"

#include <charconv>
#include <functional>

#include "longhaul/base/strings.h"
#include "longhaul/codec/codec_spec.h"

namespace char_gpt {
namespace {

using longhaul::closest_match;
using longhaul::ErrorKind;
using longhaul::Failure;
using longhaul::Result;
using longhaul::str_cat;

// One flag: how it is shown, and what its value does to the options ("" or the complaint).
struct Flag {
  std::string name;
  std::string value_name;
  std::string help;
  std::function<std::string(Options&, const std::string& value)> apply;
};

template <typename Number>
bool parse_number(const std::string& text, Number* number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && stop == end;
}

Flag count_flag(const std::string& name, const std::string& help, int64_t Options::* member,
                int64_t smallest) {
  return {name, "N", str_cat(help, " (", Options().*member, ")"),
          [member, smallest](Options& options, const std::string& value) -> std::string {
            if (parse_number(value, &(options.*member)) && options.*member >= smallest) return "";
            return str_cat("must be a whole number of at least ", smallest);
          }};
}

Flag text_flag(const std::string& name, const std::string& value_name, const std::string& help,
               std::string Options::* member) {
  return {name, value_name, help,
          [member](Options& options, const std::string& value) -> std::string {
            options.*member = value;
            return value.empty() ? "must not be empty" : "";
          }};
}

std::string apply_learning_rate(Options& options, const std::string& value) {
  const bool ok = parse_number(value, &options.learning_rate) && options.learning_rate > 0;
  return ok ? "" : "must be a number above 0";
}

std::string apply_codec(Options& options, const std::string& value) {
  const Result<longhaul::CodecSpec> codec = longhaul::CodecSpec::parse(value);
  options.codec = value;
  return codec ? "" : codec.failure().message;
}

std::string apply_dump_steps(Options& options, const std::string& value) {
  options.dump_steps.clear();
  for (const std::string& part : longhaul::split(value, ',')) {
    int64_t step = 0;
    if (!parse_number(part, &step) || step < 1) return "must be step numbers with commas between";
    options.dump_steps.push_back(step);
  }
  return "";
}

std::vector<Flag> all_flags() {
  return {
      text_flag("--text", "FILE|DIR", "the text to learn; of a folder all source and text files",
                &Options::text),
      count_flag("--max-bytes", "read no more text than this", &Options::max_bytes, 1),
      count_flag("--steps", "optimizer steps", &Options::steps, 1),
      count_flag("--batch", "windows of text per rank and step", &Options::batch, 1),
      count_flag("--context", "bytes in a window", &Options::context, 1),
      count_flag("--layers", "transformer blocks", &Options::layers, 1),
      count_flag("--heads", "attention heads per block", &Options::heads, 1),
      count_flag("--width", "size of the vector that stands for a byte", &Options::width, 1),
      {"--lr", "X", str_cat("peak learning rate (", Options().learning_rate, ")"),
       apply_learning_rate},
      count_flag("--seed", "of the parameters and of the windows drawn", &Options::seed, 0),
      {"--codec", "NAME",
       str_cat("how gradients travel: ", longhaul::join(longhaul::CodecSpec::names(), " or "), " (",
               Options().codec, ")"),
       apply_codec},
      text_flag("--report", "FILE", "also write the final report as JSON", &Options::report),
      text_flag("--checkpoint", "FILE",
                "go on from it where it is there; save it when asked to stop, and at the end",
                &Options::checkpoint),
      count_flag("--sample", "bytes to generate at the end", &Options::sample, 0),
      text_flag("--dump-gradients", "DIR", "write rank 0's own gradients here, as flat fp32 files",
                &Options::dump_gradients),
      {"--dump-steps", "A,B,...", "at these steps (1,50,200)", apply_dump_steps},
  };
}

Failure invalid(const std::string& message) {
  return {ErrorKind::kInvalid, message};
}

Failure unknown_flag(const std::string& name, const std::vector<Flag>& flags) {
  std::vector<std::string> names = {"--help"};
  for (const Flag& flag : flags) names.push_back(flag.name);
  const std::string near = closest_match(name, names);
  return invalid(str_cat("unknown argument '", name, "'",
                         near.empty() ? "; see --help" : str_cat("; did you mean '", near, "'?")));
}

Result<Options> check_together(Options options) {
  if (options.text.empty()) return invalid("--text FILE|DIR is needed: the text to learn");
  if (options.width % options.heads != 0) {
    return invalid(
        str_cat("--width ", options.width, " must be a multiple of --heads ", options.heads));
  }
  return options;
}

}  // namespace

Result<Options> parse_options(const std::vector<std::string>& arguments) {
  const std::vector<Flag> flags = all_flags();
  Options options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const size_t equals = arguments[i].find('=');
    const std::string name = arguments[i].substr(0, equals);
    if (name == "--help" || name == "-h") {
      options.help = true;
      return options;
    }
    const Flag* flag = nullptr;
    for (const Flag& candidate : flags) {
      if (candidate.name == name) flag = &candidate;
    }
    if (flag == nullptr) return unknown_flag(name, flags);
    std::string value;
    if (equals != std::string::npos) {
      value = arguments[i].substr(equals + 1);
    } else if (i + 1 < arguments.size()) {
      value = arguments[++i];
    } else {
      return invalid(str_cat(name, " needs a value: ", name, " ", flag->value_name));
    }
    const std::string complaint = flag->apply(options, value);
    if (!complaint.empty()) return invalid(str_cat(name, " '", value, "': ", complaint));
  }
  return check_together(std::move(options));
}

std::string usage() {
  std::string text =
      "char_gpt --text FILE|DIR [flags]\n"
      "Trains a small GPT on the bytes of a text, alone or over several ranks.\n\n";
  for (const Flag& flag : all_flags()) {
    const std::string left = flag.name + " " + flag.value_name;
    text +=
        "  " + left + std::string(left.size() < 24 ? 24 - left.size() : 1, ' ') + flag.help + "\n";
  }
  return text;
}

}  // namespace char_gpt
