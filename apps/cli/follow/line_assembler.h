// Pieces of the ranks' output become whole lines.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "control/client/job_client.h"

namespace longhaul::cli {

// A line without its end.
struct RankLine {
  uint64_t rank = 0;  // or the task, as its user calls it
  bool is_stderr = false;
  std::string text;
};

// "[2] step 7\n".
std::string with_rank(const RankLine& line);

// Lines of many ranks never mix. Pieces that come again (a watch that began anew) are dropped by
// offset.
class LineAssembler {
 public:
  // A rank that never ends its line must not fill our memory: a longer one comes in parts, each of
  // which but the last ends in kGoesOn, and each but the first begins with it.
  static constexpr size_t kLongestLine = size_t{64} << 10;
  static constexpr const char* kGoesOn = "[...]";

  // The lines that `piece` completes.
  std::vector<RankLine> add(const OutputPiece& piece);

  // What has come of the line that `piece` was the last part of so far; "" when it is over.
  std::string unfinished(const OutputPiece& piece) const;

  // What the ranks left without a line end, completed: first stdout's, then stderr's.
  std::vector<RankLine> flush();

 private:
  struct Stream {
    uint64_t next_offset = 0;
    std::string partial;
  };
  static std::vector<RankLine> whole_lines(const OutputPiece& piece, std::string& text);
  using Key = std::tuple<Generation, Rank, bool>;

  std::map<Key, Stream> streams_;
};

}  // namespace longhaul::cli
