#include "longhaul/codec/codec_spec.h"

#include <algorithm>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

struct NamedKind {
  const char* name;
  CodecSpec::Kind kind;
};

constexpr NamedKind kKinds[] = {{"none", CodecSpec::Kind::kNone}, {"zstd", CodecSpec::Kind::kZstd}};

}  // namespace

Result<CodecSpec> CodecSpec::parse(std::string_view text) {
  for (const NamedKind& known : kKinds) {
    if (text == known.name) return CodecSpec{known.kind};
  }
  const std::string near = closest_match(text, names());
  return Failure{ErrorKind::kInvalid,
                 str_cat("unknown codec '", text, "'",
                         near.empty() ? "" : str_cat(", did you mean '", near, "'?"),
                         " (codecs: ", join(names(), ", "), ")")};
}

std::vector<std::string> CodecSpec::names() {
  std::vector<std::string> all;
  for (const NamedKind& known : kKinds) all.emplace_back(known.name);
  return all;
}

std::string CodecSpec::str() const {
  const auto* known = std::find_if(std::begin(kKinds), std::end(kKinds),
                                   [this](const NamedKind& each) { return each.kind == kind; });
  return known == std::end(kKinds) ? str_cat("codec ", static_cast<int>(kind)) : known->name;
}

}  // namespace longhaul
