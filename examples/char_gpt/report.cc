#include "examples/char_gpt/report.h"

#include <algorithm>
#include <limits>

#include "longhaul/base/json.h"
#include "longhaul/base/strings.h"

namespace char_gpt {
namespace {

using longhaul::format_fixed;
using longhaul::str_cat;

// Length of the valid UTF-8 sequence that `text` starts with; 0 when there is none.
size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead < 0x80   ? 1
                        : lead < 0xC2 ? 0
                        : lead < 0xE0 ? 2
                        : lead < 0xF0 ? 3
                        : lead < 0xF5 ? 4
                                      : 0;
  if (length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return 0;
  }
  return length;
}

bool is_control(char byte) {
  return static_cast<unsigned char>(byte) < 0x20 && byte != '\n' && byte != '\t';
}

std::string traffic_line(const Report& report) {
  if (report.world_size == 1) return "none: there is nobody to send them to";
  const double ratio =
      static_cast<double>(report.bytes_raw) / static_cast<double>(report.bytes_sent);
  return str_cat(longhaul::format_bytes(report.bytes_raw), " raw, ",
                 longhaul::format_bytes(report.bytes_sent), " sent with codec ", report.codec, " (",
                 format_fixed(ratio, 2), "x)");
}

std::string link_line(const Report& report) {
  if (report.link_bytes_per_second <= 0) return "unknown: nothing that was sent filled it";
  return str_cat(format_fixed(report.link_bytes_per_second * 8 / 1e6, 1),
                 " Mbit/s while rank 0 was sending");
}

}  // namespace

std::string to_json(const Report& report) {
  return longhaul::JsonObject()
      .set("held_out_loss", report.held_out_loss)
      .set("bigram_loss", report.bigram_loss)
      .set("parameter_hashes", report.parameter_hashes)
      .set("bytes_raw", report.bytes_raw)
      .set("bytes_sent", report.bytes_sent)
      .set("seconds", report.seconds)
      .set("tokens_per_second", report.tokens_per_second)
      .set("world_size", report.world_size)
      .set("codec", report.codec)
      .set("codec_in_use", report.codec_in_use)
      .set("link_bytes_per_second", report.link_bytes_per_second > 0
                                        ? report.link_bytes_per_second
                                        : std::numeric_limits<double>::quiet_NaN())
      .str();
}

std::string to_text(const Report& report) {
  std::string text =
      str_cat("held-out loss     ", format_fixed(report.held_out_loss, 4),
              " nats per byte (a bigram model: ", format_fixed(report.bigram_loss, 4), ")\n");
  text += str_cat(
      "parameters        hash ", report.parameter_hashes.front(), " on ",
      report.world_size == 1 ? "the only rank" : str_cat("all ", report.world_size, " ranks"),
      "\n");
  text += str_cat("gradient bytes    ", traffic_line(report), "\n");
  if (report.codec.starts_with("auto")) {
    text += str_cat("codec             ", report.codec_in_use, "\n");
  }
  if (report.world_size > 1) text += str_cat("link              ", link_line(report), "\n");
  text += str_cat("speed             ", format_fixed(report.tokens_per_second, 0),
                  " tokens/s over ", longhaul::format_seconds(report.seconds), "\n");
  return text;
}

std::string printable(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const size_t length = is_control(text[0]) ? 0 : utf8_length(text);
    shown += length > 0 ? text.substr(0, length) : "\xEF\xBF\xBD";
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return shown;
}

}  // namespace char_gpt
