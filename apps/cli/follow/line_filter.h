// Which lines of a job's output are wanted: those that match, and of them the last ones.
#pragma once

#include <regex.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/follow/line_assembler.h"
#include "longhaul/base/result.h"

namespace longhaul::cli {

// An extended regular expression (POSIX), as of `grep -E`.
class LinePattern {
 public:
  // Errors: kInvalid, with what is wrong.
  static Result<LinePattern> compile(const std::string& expression);
  bool matches(const std::string& line) const;

 private:
  struct Free {
    void operator()(regex_t* regex) const;
  };
  explicit LinePattern(std::unique_ptr<regex_t, Free> regex) : regex_(std::move(regex)) {}

  std::shared_ptr<regex_t> regex_;  // shared, because options are copied
};

// Keeps the last lines that come.
class LineTail {
 public:
  explicit LineTail(size_t count) : count_(count) {}
  void add(RankLine line);
  std::vector<RankLine> take();

 private:
  const size_t count_;
  std::deque<RankLine> lines_;
};

}  // namespace longhaul::cli
