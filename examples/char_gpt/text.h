// The text to learn, split into a part for training and a part that is only ever scored.
#pragma once

#include <cstdint>
#include <string>

#include "longhaul/base/result.h"

namespace char_gpt {

// Of a folder every 16th file is held out, in the order of the sorted paths; of a single file (or
// of a folder with fewer than 16 files) the last tenth of the bytes.
struct Corpus {
  std::string training;
  std::string held_out;
};

// Reads a file, or all source and text files (.h .hpp .cuh .c .cc .cpp .cu .py .md .txt ...) below
// a folder, in sorted order, until `max_bytes` are read. Every rank that reads the same text gets
// the same bytes. Both parts hold at least `context + 1` bytes. Errors: kInvalid when the text is
// missing, unreadable, empty or too short; one line.
longhaul::Result<Corpus> load_corpus(const std::string& path, int64_t max_bytes, int64_t context);

}  // namespace char_gpt
