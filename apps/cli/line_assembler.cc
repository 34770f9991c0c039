#include "apps/cli/line_assembler.h"

#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

// A line longer than this is cut: a rank that never ends its line must not fill our memory.
constexpr size_t kLongestLine = size_t{64} << 10;

}  // namespace

std::string LineAssembler::with_prefix(Rank rank, const std::string& line) const {
  return prefix_ ? str_cat("[", rank, "] ", line, "\n") : line + "\n";
}

std::string LineAssembler::add(const OutputPiece& piece) {
  Stream& stream = streams_[{piece.generation, piece.rank, piece.is_stderr}];
  const uint64_t end = piece.offset + piece.data.size();
  if (end <= stream.next_offset) return "";
  // A gap means that older output was dropped on the way; what is new is shown from its start.
  const uint64_t known = piece.offset < stream.next_offset ? stream.next_offset - piece.offset : 0;
  stream.partial += piece.data.substr(known);
  stream.next_offset = end;

  std::string lines;
  size_t begin = 0;
  for (size_t at = stream.partial.find('\n'); at != std::string::npos;
       at = stream.partial.find('\n', begin)) {
    lines += with_prefix(piece.rank, stream.partial.substr(begin, at - begin));
    begin = at + 1;
  }
  stream.partial.erase(0, begin);
  if (stream.partial.size() > kLongestLine) {
    lines += with_prefix(piece.rank, stream.partial);
    stream.partial.clear();
  }
  return lines;
}

std::pair<std::string, std::string> LineAssembler::flush() {
  std::pair<std::string, std::string> lines;
  for (auto& [key, stream] : streams_) {
    if (stream.partial.empty()) continue;
    const auto [generation, rank, is_stderr] = key;
    (is_stderr ? lines.second : lines.first) += with_prefix(rank, stream.partial);
    stream.partial.clear();
  }
  return lines;
}

}  // namespace longhaul::cli
