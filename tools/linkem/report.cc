#include "tools/linkem/report.h"

#include <array>
#include <cstdio>
#include <numeric>

#include "longhaul/base/json.h"
#include "longhaul/base/strings.h"

namespace longhaul::linkem {
namespace {

// Columns of `cells` under `titles`, the first to the left, the others to the right.
std::string row(const std::array<std::string, 9>& cells) {
  constexpr std::array<int, 9> kWidths{-9, 10, 10, 10, 10, 8, 8, 8, 11};
  std::string text = "  ";
  for (size_t i = 0; i < cells.size(); ++i) {
    std::array<char, 64> cell{};
    std::snprintf(cell.data(), cell.size(), "%*s", kWidths[i], cells[i].c_str());
    text += cell.data();
  }
  return text + "\n";
}

std::string link_row(const std::string& name, const LinkCounters& link) {
  return row({name, std::to_string(link.packets), format_bytes(link.bytes),
              std::to_string(link.delivered_packets), std::to_string(link.dropped_queue),
              std::to_string(link.dropped_loss), std::to_string(link.dropped_outage),
              std::to_string(link.reordered), format_bytes(link.max_queue_bytes)});
}

std::string link_json(size_t host, const char* direction, const LinkCounters& link) {
  return JsonObject()
      .set("host", host)
      .set("direction", direction)
      .set("packets", link.packets)
      .set("bytes", link.bytes)
      .set("delivered_packets", link.delivered_packets)
      .set("delivered_bytes", link.delivered_bytes)
      .set("dropped_queue", link.dropped_queue)
      .set("dropped_loss", link.dropped_loss)
      .set("dropped_outage", link.dropped_outage)
      .set("reordered", link.reordered)
      .set("max_queue_packets", link.max_queue_packets)
      .set("max_queue_bytes", link.max_queue_bytes)
      .str();
}

std::string whole(double value) {
  return std::to_string(static_cast<uint64_t>(value + 0.5));
}

uint64_t sum(const std::vector<uint64_t>& values) {
  return std::accumulate(values.begin(), values.end(), uint64_t{0});
}

}  // namespace

std::string report_as_text(const Report& report) {
  const RouterReport& router = report.router;
  std::string text = str_cat("linkem: ", router.up.size(), " hosts for ",
                             format_seconds(router.seconds), ", seed ", report.seed);
  if (router.lateness.count() > 0) {
    text += str_cat("; packets arrived late by ", whole(router.lateness.mean_us()),
                    " us in the mean, 99 % of them by less than ", whole(router.lateness.p99_us()),
                    " us, the worst by ", whole(router.lateness.max_us()), " us");
  }
  text += "\n" + row({"link", "packets", "bytes", "delivered", "queue", "lost", "outage", "reorder",
                      "max queue"});
  for (size_t host = 0; host < router.up.size(); ++host) {
    text += link_row(str_cat(host, " up"), router.up[host]);
    text += link_row(str_cat(host, " down"), router.down[host]);
  }
  const auto warn = [&](uint64_t count, const char* what) {
    if (count > 0) text += str_cat("  ", count, " packets ", what, "\n");
  };
  warn(sum(report.dropped_at_device),
       "were dropped at a device: this machine is too slow for what was sent");
  warn(router.refused, "were refused by the receiver's device");
  warn(router.unroutable, "were to no host of the emulation");
  return text;
}

std::string report_as_json(const Report& report) {
  const RouterReport& router = report.router;
  std::vector<std::string> links;
  for (size_t host = 0; host < router.up.size(); ++host) {
    links.push_back(link_json(host, "up", router.up[host]));
    links.push_back(link_json(host, "down", router.down[host]));
  }
  const std::string lateness = JsonObject()
                                   .set("packets", router.lateness.count())
                                   .set("mean", router.lateness.mean_us())
                                   .set("p99", router.lateness.p99_us())
                                   .set("max", router.lateness.max_us())
                                   .str();
  return JsonObject()
      .set("schema", 1)
      .set("hosts", router.up.size())
      .set("seconds", router.seconds)
      .set("seed", report.seed)
      .set("exit_code", report.exit_code)
      .set("real_time", router.real_time)
      .set_raw("lateness_us", lateness)
      .set("dropped_at_device", sum(report.dropped_at_device))
      .set("refused", router.refused)
      .set("unroutable", router.unroutable)
      .set("in_flight", router.in_flight)
      .set_raw("links", "[" + join(links, ",") + "]")
      .str();
}

}  // namespace longhaul::linkem
