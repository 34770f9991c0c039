// The command line of char_gpt. No torch here, so that a wrong flag is answered at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "longhaul/base/result.h"

namespace char_gpt {

// Exit codes of <sysexits.h>: the call was wrong; the text could not be used.
constexpr int kExitUsage = 64;
constexpr int kExitNoInput = 66;

// The defaults fit two cores that four ranks share: the quickstart trains with them.
struct Options {
  std::string text;              // a file, or a folder whose text files are read
  int64_t max_bytes = 64 << 20;  // read no more text than this
  int64_t steps = 800;           // optimizer steps
  int64_t batch = 4;             // windows of text per rank and step
  int64_t context = 64;          // bytes in a window
  int64_t layers = 2;            // transformer blocks
  int64_t heads = 4;             // attention heads per block
  int64_t width = 128;           // size of the vector that stands for a byte
  double learning_rate = 4e-3;   // the peak, after warm-up
  int64_t seed = 1;              // of the parameters and of the windows drawn
  std::string codec = "zstd";    // how gradients travel: longhaul::CodecSpec
  std::string report;            // write the final report here as JSON; "": do not
  std::string checkpoint;        // go on from here, and save here when asked to stop; "": do not
  int64_t sample = 400;          // bytes to generate at the end
  std::string dump_gradients;    // folder for rank 0's gradients; "": do not
  std::vector<int64_t> dump_steps = {1, 50, 200};
  bool help = false;
};

// Errors: kInvalid, with one line that says what is wrong and what was probably meant.
longhaul::Result<Options> parse_options(const std::vector<std::string>& arguments);

std::string usage();

}  // namespace char_gpt
