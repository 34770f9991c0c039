#include "apps/cli/line_assembler.h"

#include <algorithm>

#include "longhaul/base/strings.h"

namespace longhaul::cli {

std::string with_rank(const RankLine& line) {
  return str_cat("[", line.rank, "] ", line.text, "\n");
}

std::vector<RankLine> LineAssembler::add(const OutputPiece& piece) {
  Stream& stream = streams_[{piece.generation, piece.rank, piece.is_stderr}];
  const uint64_t end = piece.offset + piece.data.size();
  if (end <= stream.next_offset) return {};
  // A gap means that older output was dropped on the way; what is new is shown from its start.
  const uint64_t known = piece.offset < stream.next_offset ? stream.next_offset - piece.offset : 0;
  stream.partial += piece.data.substr(known);
  stream.next_offset = end;

  std::vector<RankLine> lines;
  const auto take = [&](std::string text) {
    lines.push_back({piece.rank, piece.is_stderr, std::move(text)});
  };
  size_t begin = 0;
  for (size_t at = stream.partial.find('\n'); at != std::string::npos;
       at = stream.partial.find('\n', begin)) {
    take(stream.partial.substr(begin, at - begin));
    begin = at + 1;
  }
  stream.partial.erase(0, begin);
  if (stream.partial.size() > kLongestLine) {
    take(stream.partial + kGoesOn);
    stream.partial = kGoesOn;
  }
  return lines;
}

std::string LineAssembler::unfinished(const OutputPiece& piece) const {
  const auto stream = streams_.find({piece.generation, piece.rank, piece.is_stderr});
  return stream == streams_.end() ? "" : stream->second.partial;
}

std::vector<RankLine> LineAssembler::flush() {
  std::vector<RankLine> lines;
  for (auto& [key, stream] : streams_) {
    if (stream.partial.empty()) continue;
    const auto [generation, rank, is_stderr] = key;
    lines.push_back({rank, is_stderr, std::move(stream.partial)});
    stream.partial.clear();
  }
  std::stable_partition(lines.begin(), lines.end(),
                        [](const RankLine& line) { return !line.is_stderr; });
  return lines;
}

}  // namespace longhaul::cli
