#include "apps/cli/follow/line_filter.h"

#include <array>
#include <iterator>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul::cli {

void LinePattern::Free::operator()(regex_t* regex) const {
  ::regfree(regex);
  delete regex;
}

Result<LinePattern> LinePattern::compile(const std::string& expression) {
  auto regex = std::make_unique<regex_t>();
  const int code = ::regcomp(regex.get(), expression.c_str(), REG_EXTENDED | REG_NOSUB);
  if (code == 0) return LinePattern(std::unique_ptr<regex_t, Free>(regex.release()));
  std::array<char, 256> why{};
  ::regerror(code, regex.get(), why.data(), why.size());
  return Failure{ErrorKind::kInvalid,
                 str_cat("'", expression, "' is no regular expression: ", why.data())};
}

bool LinePattern::matches(const std::string& line) const {
  // The whole line, whatever bytes are in it.
  regmatch_t range{};
  range.rm_eo = static_cast<regoff_t>(line.size());
  return ::regexec(regex_.get(), line.c_str(), 1, &range, REG_STARTEND) == 0;
}

void LineTail::add(RankLine line) {
  lines_.push_back(std::move(line));
  if (lines_.size() > count_) lines_.pop_front();
}

std::vector<RankLine> LineTail::take() {
  std::vector<RankLine> lines(std::make_move_iterator(lines_.begin()),
                              std::make_move_iterator(lines_.end()));
  lines_.clear();
  return lines;
}

}  // namespace longhaul::cli
