// What a run ends with, for people and as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace char_gpt {

struct Report {
  double held_out_loss = 0;                   // nats per byte
  double bigram_loss = 0;                     // of the bigram model, on the same held-out bytes
  std::vector<std::string> parameter_hashes;  // by rank
  uint64_t bytes_raw = 0;        // gradient bytes all ranks would have sent without a codec
  uint64_t bytes_sent = 0;       // gradient bytes they sent
  double seconds = 0;            // in the training loop
  double tokens_per_second = 0;  // bytes of text all ranks learned from in a second
  int world_size = 1;
  std::string codec;                 // as asked for
  std::string codec_in_use;          // with `auto`: what was chosen, and why
  double link_bytes_per_second = 0;  // what rank 0's connections carried; 0: unknown
};

std::string to_json(const Report& report);
std::string to_text(const Report& report);

// What a model wrote, fit for a terminal: lines, tabs and valid UTF-8 stay, every other byte
// becomes a U+FFFD.
std::string printable(std::string_view text);

}  // namespace char_gpt
