#include "tools/linkem/settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul::linkem {
namespace {

constexpr double kLargestDefaultQueue = 1e9;
constexpr double kSmallestDefaultQueue = 65536;

Failure invalid(const std::string& message) {
  return {ErrorKind::kInvalid, message};
}

// One link while its plan grows.
struct LinkDraft {
  LinkQuality quality;
  bool queue_is_set = false;
  bool rate_is_set = false;
  LinkPlan plan;
};

struct HostDraft {
  LinkDraft up;
  LinkDraft down;
};

// Which of the two links a key is about, and whether its value is a path's, to be halved.
struct Target {
  std::vector<LinkDraft*> links;
  bool is_path;
};

// The share each of two links needs for the path to lose (or reorder) `share` in all.
double half_of_share(double share) {
  return 1 - std::sqrt(1 - share);
}

using Apply = Result<void> (*)(const Target& target, std::string_view value);

Result<void> apply_rate(const Target& target, std::string_view value) {
  const Result<double> rate = parse_rate(value);
  if (!rate) return rate.failure();
  for (LinkDraft* link : target.links) {
    link->quality.bits_per_second = *rate;
    link->rate_is_set = true;
  }
  return {};
}

Result<void> apply_rtt(const Target& target, std::string_view value) {
  const Result<nanoseconds> rtt = parse_duration(value);
  if (!rtt) return rtt.failure();
  for (LinkDraft* link : target.links) link->quality.delay = *rtt / 4;
  return {};
}

Result<void> apply_delay(const Target& target, std::string_view value) {
  const Result<nanoseconds> delay = parse_duration(value);
  if (!delay) return delay.failure();
  for (LinkDraft* link : target.links) link->quality.delay = *delay;
  return {};
}

Result<void> apply_jitter(const Target& target, std::string_view value) {
  const Result<nanoseconds> jitter = parse_duration(value);
  if (!jitter) return jitter.failure();
  for (LinkDraft* link : target.links) link->quality.jitter = *jitter / (target.is_path ? 2 : 1);
  return {};
}

Result<void> apply_loss(const Target& target, std::string_view value) {
  const Result<double> loss = parse_share(value);
  if (!loss) return loss.failure();
  for (LinkDraft* link : target.links) {
    link->quality.loss = target.is_path ? half_of_share(*loss) : *loss;
  }
  return {};
}

Result<void> apply_reorder(const Target& target, std::string_view value) {
  const Result<double> reorder = parse_share(value);
  if (!reorder) return reorder.failure();
  for (LinkDraft* link : target.links) {
    link->quality.reorder = target.is_path ? half_of_share(*reorder) : *reorder;
  }
  return {};
}

Result<void> apply_reorder_by(const Target& target, std::string_view value) {
  const Result<nanoseconds> by = parse_duration(value);
  if (!by) return by.failure();
  for (LinkDraft* link : target.links) link->quality.reorder_by = *by;
  return {};
}

Result<void> apply_queue(const Target& target, std::string_view value) {
  const Result<QueueLimit> queue = parse_queue(value);
  if (!queue) return queue.failure();
  for (LinkDraft* link : target.links) {
    link->quality.queue = *queue;
    link->queue_is_set = true;
  }
  return {};
}

// "10s+2s,30s+1s"
Result<void> apply_outage(const Target& target, std::string_view value) {
  std::vector<Outage> outages;
  for (const std::string& text : split(value, ',')) {
    const size_t plus = text.find('+');
    if (plus == std::string::npos) {
      return invalid(str_cat("'", text, "' is no outage: START+LENGTH, as in 10s+2s"));
    }
    const Result<nanoseconds> from = parse_duration(text.substr(0, plus));
    if (!from) return from.failure();
    const Result<nanoseconds> length = parse_duration(text.substr(plus + 1));
    if (!length) return length.failure();
    outages.push_back({*from, *length});
  }
  for (LinkDraft* link : target.links) link->plan.outages = outages;
  return {};
}

// Which forms of a key there are.
enum Forms { kBoth = 1, kOneWay = 2 };  // "rate", "up-rate" and "down-rate"

struct Key {
  std::string_view name;
  int forms;
  bool may_change;  // in a trace
  Apply apply;
};

constexpr std::array<Key, 9> kKeys{{
    {"rate", kBoth | kOneWay, true, apply_rate},
    {"rtt", kBoth, true, apply_rtt},
    {"delay", kOneWay, true, apply_delay},
    {"jitter", kBoth | kOneWay, true, apply_jitter},
    {"loss", kBoth | kOneWay, true, apply_loss},
    {"reorder", kBoth | kOneWay, true, apply_reorder},
    {"reorder-by", kBoth | kOneWay, true, apply_reorder_by},
    {"queue", kBoth | kOneWay, true, apply_queue},
    {"outage", kBoth | kOneWay, false, apply_outage},
}};
constexpr std::string_view kMahimahiUp = "mahimahi-up";
constexpr std::string_view kMahimahiDown = "mahimahi-down";

Result<void> apply_mahimahi(const Setting& setting, const ReadFile& read_file, LinkDraft* link) {
  const Result<std::string> text = read_file(setting.value);
  if (!text) return text.failure();
  Result<MahimahiTrace> trace = parse_mahimahi(*text);
  if (!trace) return invalid(setting.value + ": " + trace.failure().message);
  link->plan.mahimahi = std::make_shared<const MahimahiTrace>(*std::move(trace));
  return {};
}

Failure unknown_key(const std::string& key) {
  const std::string near = closest_match(key, setting_keys());
  return invalid(str_cat("unknown key '", key, "'",
                         near.empty() ? "; there are " : ": did you mean '",
                         near.empty() ? join(setting_keys(), ", ") : near + "'?"));
}

Result<void> apply(const Setting& setting, const ReadFile& read_file, HostDraft* host) {
  if (setting.key == kMahimahiUp || setting.key == kMahimahiDown) {
    return apply_mahimahi(setting, read_file, setting.key == kMahimahiUp ? &host->up : &host->down);
  }
  for (const Key& key : kKeys) {
    const std::string name(key.name);
    if ((key.forms & kBoth) != 0 && setting.key == name) {
      return key.apply({{&host->up, &host->down}, true}, setting.value);
    }
    if ((key.forms & kOneWay) != 0 && setting.key == "up-" + name) {
      return key.apply({{&host->up}, false}, setting.value);
    }
    if ((key.forms & kOneWay) != 0 && setting.key == "down-" + name) {
      return key.apply({{&host->down}, false}, setting.value);
    }
  }
  return unknown_key(setting.key);
}

bool may_change(const std::string& key) {
  return std::none_of(
             kKeys.begin(), kKeys.end(),
             [&](const Key& known) { return !known.may_change && key.ends_with(known.name); }) &&
         key != kMahimahiUp && key != kMahimahiDown;
}

double mean_rate(const LinkDraft& link) {
  if (link.plan.mahimahi == nullptr) return link.quality.bits_per_second;
  const std::vector<uint64_t>& times = link.plan.mahimahi->milliseconds;
  return static_cast<double>(times.size()) * 1500 * 8 / (static_cast<double>(times.back()) * 1e-3);
}

// What the rate sends in one RTT to a host like this one, or in 50 ms if that is more: enough for
// one TCP connection to fill the link, as home routers have it.
QueueLimit default_queue(const LinkDraft& link, nanoseconds round_trip) {
  const double seconds = std::max(0.05, static_cast<double>(round_trip.count()) * 1e-9);
  const double bytes =
      std::clamp(mean_rate(link) * seconds / 8, kSmallestDefaultQueue, kLargestDefaultQueue);
  return {QueueLimit::Unit::kBytes, static_cast<uint64_t>(bytes)};
}

// What holds now becomes a phase that begins at `from`, or takes the place of one that does.
void add_phase(nanoseconds from, HostDraft* host) {
  const nanoseconds round_trip = 2 * (host->up.quality.delay + host->down.quality.delay);
  for (LinkDraft* link : {&host->up, &host->down}) {
    if (!link->queue_is_set) link->quality.queue = default_queue(*link, round_trip);
    std::vector<LinkPhase>& phases = link->plan.phases;
    if (phases.back().from == from) phases.pop_back();
    phases.push_back({from, link->quality});
  }
}

Result<void> check_rates(const HostDraft& host) {
  for (const LinkDraft* link : {&host.up, &host.down}) {
    if (link->rate_is_set && link->plan.mahimahi != nullptr) {
      return invalid("a link has a rate or a Mahimahi trace, not both");
    }
  }
  return {};
}

// Settings of all hosts before those of one, and everything in order of time.
void sort_settings(std::vector<Setting>* settings) {
  std::stable_sort(settings->begin(), settings->end(), [](const Setting& a, const Setting& b) {
    return std::pair(a.at, a.host.has_value()) < std::pair(b.at, b.host.has_value());
  });
}

std::optional<size_t> parse_number(std::string_view text) {
  size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Result<void> parse_trace_line(std::string_view line, std::vector<Setting>* settings) {
  std::vector<std::string> words = split(line, ' ');
  std::erase(words, "");
  if (words.empty()) return {};
  const Result<nanoseconds> at = parse_duration(words[0] + "s");
  if (!at)
    return invalid(str_cat("'", words[0], "' is no time: seconds from 0 to 3600, as in 2.5"));
  std::optional<size_t> host;
  for (size_t i = 1; i < words.size(); ++i) {
    Result<Setting> setting = parse_setting(words[i]);
    if (!setting) return setting.failure();
    if (setting->key == "host") {
      host = parse_number(setting->value);
      if (!host)
        return invalid(str_cat("'", setting->value, "' is no host: a number, as in host=2"));
      continue;
    }
    setting->at = *at;
    setting->host = host;
    settings->push_back(*std::move(setting));
  }
  return {};
}

}  // namespace

const std::vector<std::string>& setting_keys() {
  static const std::vector<std::string> keys = [] {
    std::vector<std::string> names;
    for (const Key& key : kKeys) {
      const std::string name(key.name);
      if ((key.forms & kBoth) != 0) names.push_back(name);
      if ((key.forms & kOneWay) != 0) names.insert(names.end(), {"up-" + name, "down-" + name});
    }
    names.insert(names.end(), {std::string(kMahimahiUp), std::string(kMahimahiDown)});
    return names;
  }();
  return keys;
}

Result<Setting> parse_setting(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return invalid(str_cat("'", text, "' is no setting: KEY=VALUE, as in rate=5mbit"));
  }
  Setting setting;
  setting.key = text.substr(0, equals);
  setting.value = text.substr(equals + 1);
  return setting;
}

Result<std::vector<Setting>> parse_host_settings(std::string_view text) {
  const size_t colon = text.find(':');
  const std::optional<size_t> host =
      colon == std::string_view::npos ? std::nullopt : parse_number(text.substr(0, colon));
  if (!host) {
    return invalid(str_cat("'", text, "' does not begin with a host: 2:rate=5mbit,loss=1%"));
  }
  std::vector<Setting> settings;
  for (const std::string& part : split(text.substr(colon + 1), ',')) {
    const bool goes_on = part.find('=') == std::string::npos && !settings.empty() &&
                         settings.back().key.ends_with("outage");
    if (goes_on) {
      settings.back().value += "," + part;
      continue;
    }
    Result<Setting> setting = parse_setting(part);
    if (!setting) return setting.failure();
    setting->host = host;
    setting->origin = str_cat("--host ", *host);
    settings.push_back(*std::move(setting));
  }
  return settings;
}

Result<std::vector<Setting>> parse_trace(const std::string& name, std::string_view text) {
  std::vector<Setting> settings;
  size_t number = 0;
  for (std::string line : split(text, '\n')) {
    const std::string origin = str_cat(name, " line ", ++number);
    line.resize(std::min(line.find('#'), line.size()));
    std::replace_if(line.begin(), line.end(), [](char c) { return c == '\t' || c == '\r'; }, ' ');
    const size_t before = settings.size();
    const Result<void> parsed = parse_trace_line(line, &settings);
    if (!parsed) return invalid(origin + ": " + parsed.failure().message);
    for (size_t i = before; i < settings.size(); ++i) {
      settings[i].origin = origin;
      if (!may_change(settings[i].key)) {
        return invalid(str_cat(origin, ": ", settings[i].key,
                               " cannot change on the way: it has times of its own"));
      }
    }
  }
  return settings;
}

Result<std::vector<HostPlan>> plan_hosts(size_t hosts, std::vector<Setting> settings,
                                         const ReadFile& read_file) {
  std::vector<HostDraft> drafts(hosts);
  sort_settings(&settings);
  for (const Setting& setting : settings) {
    if (setting.host && *setting.host >= hosts) {
      return invalid(
          str_cat(setting.origin, ": no host ", *setting.host, ": they are 0 to ", hosts - 1));
    }
    for (size_t host = 0; host < hosts; ++host) {
      if (setting.host && *setting.host != host) continue;
      Result<void> applied = apply(setting, read_file, &drafts[host]);
      if (applied) applied = check_rates(drafts[host]);
      if (!applied) return invalid(setting.origin + ": " + applied.failure().message);
      add_phase(setting.at, &drafts[host]);
    }
  }
  std::vector<HostPlan> plans;
  plans.reserve(hosts);
  for (HostDraft& draft : drafts) {
    plans.push_back({std::move(draft.up.plan), std::move(draft.down.plan)});
  }
  return plans;
}

}  // namespace longhaul::linkem
