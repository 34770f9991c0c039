// Pieces of the ranks' output become whole lines with the rank in front: "[2] step 7".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "longhaul/control/job_client.h"

namespace longhaul::cli {

// Lines of many ranks never mix. Pieces that come again (a watch that began anew) are dropped by
// offset.
class LineAssembler {
 public:
  // `prefix`: put "[rank] " before each line; else lines pass as they are.
  explicit LineAssembler(bool prefix = true) : prefix_(prefix) {}

  // The lines that `piece` completes, each with its line end; "" when there is none yet.
  std::string add(const OutputPiece& piece);

  // What the ranks left without a line end, completed: first stdout's, then stderr's.
  std::pair<std::string, std::string> flush();

 private:
  struct Stream {
    uint64_t next_offset = 0;
    std::string partial;
  };

  std::string with_prefix(Rank rank, const std::string& line) const;

  const bool prefix_;
  std::map<std::tuple<Generation, Rank, bool>, Stream> streams_;
};

}  // namespace longhaul::cli
