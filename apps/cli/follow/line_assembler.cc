#include "apps/cli/follow/line_assembler.h"

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
  // A gap means that older output was dropped on its way here. What is new is shown from its start,
  // which may be the middle of a line.
  const uint64_t known = piece.offset < stream.next_offset ? stream.next_offset - piece.offset : 0;
  stream.partial += piece.data.substr(known);
  stream.next_offset = end;
  if (piece.task && !stream.partial.ends_with('\n')) stream.partial += '\n';  // all has come
  return whole_lines(piece, stream.partial);
}

// Takes them out of `text`.
std::vector<RankLine> LineAssembler::whole_lines(const OutputPiece& piece, std::string& text) {
  std::vector<RankLine> lines;
  const uint64_t name = piece.task.value_or(static_cast<uint64_t>(piece.rank));
  const auto take = [&](std::string line) {
    lines.push_back({name, piece.is_stderr, std::move(line)});
  };
  size_t begin = 0;
  for (size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', begin)) {
    take(text.substr(begin, at - begin));
    begin = at + 1;
  }
  text.erase(0, begin);
  if (text.size() > kLongestLine) {
    take(text + kGoesOn);
    text = kGoesOn;
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
    lines.push_back({static_cast<uint64_t>(rank), is_stderr, std::move(stream.partial)});
    stream.partial.clear();
  }
  std::stable_partition(lines.begin(), lines.end(),
                        [](const RankLine& line) { return !line.is_stderr; });
  return lines;
}

}  // namespace longhaul::cli
