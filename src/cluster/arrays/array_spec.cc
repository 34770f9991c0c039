#include "cluster/arrays/array_spec.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

Failure malformed(std::string_view part, std::string_view why) {
  return {ErrorKind::kInvalid, str_cat("array: '", part, "': ", why)};
}

// The whole text as a number from `least` to kMaxIndex.
Result<uint64_t> parse_number(std::string_view text, uint64_t least, std::string_view part,
                              std::string_view what) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || error == std::errc::invalid_argument) {
    return malformed(part, str_cat("'", text, "' is no ", what,
                                   "; write N, A-B or A-B:STEP, with commas between, and %LIMIT at "
                                   "the end"));
  }
  if (error == std::errc::result_out_of_range || value < least || value > ArraySpec::kMaxIndex) {
    return malformed(part, str_cat("the ", what, " ", text, " is not from ", least, " to ",
                                   ArraySpec::kMaxIndex));
  }
  return value;
}

// Cuts `text` at the first `separator`; the part behind it is absent when there is none.
std::optional<std::string_view> cut(std::string_view& text, char separator) {
  const size_t at = text.find(separator);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view behind = text.substr(at + 1);
  text = text.substr(0, at);
  return behind;
}

// The number below `modulus` that times `value` leaves 1, for coprime ones (extended Euclid).
uint64_t inverse(uint64_t value, uint64_t modulus) {
  __extension__ using Wide = __int128;
  Wide before = 0;
  Wide now = 1;
  for (Wide a = modulus, b = value % modulus; b != 0;) {
    const Wide quotient = a / b;
    before = std::exchange(now, before - quotient * now);
    a = std::exchange(b, a - quotient * b);
  }
  return static_cast<uint64_t>(before < 0 ? before + modulus : before);
}

}  // namespace

Result<ArraySpec> ArraySpec::parse(std::string_view text) {
  ArraySpec spec;
  const std::string_view whole = text;
  if (const auto limit = cut(text, '%')) {
    const Result<uint64_t> value = parse_number(*limit, 1, whole, "limit");
    if (!value) return value.failure();
    spec.max_at_once_ = static_cast<TaskIndex>(std::min<uint64_t>(*value, kMaxTasks));
  }

  uint64_t size = 0;
  size_t stepped = 0;
  for (std::optional<std::string_view> rest = text; rest;) {
    std::string_view part = *rest;
    rest = cut(part, ',');
    if (part.empty()) {
      return Failure{ErrorKind::kInvalid,
                     str_cat("array: part ", spec.ranges_.size() + 1, " is empty")};
    }
    Result<Range> range = parse_range(part);
    if (!range) return range.failure();
    range->first_task = static_cast<TaskIndex>(size);
    if (range->count() > kMaxTasks - size) {
      return malformed(part, str_cat("more than ", kMaxTasks, " tasks in all"));
    }
    size += range->count();
    stepped += range->step > 1 ? 1 : 0;
    spec.ranges_.push_back(*range);
    if (spec.ranges_.size() > kMaxParts) {
      return malformed(part, str_cat("more than ", kMaxParts, " parts; use --each-line FILE"));
    }
    if (stepped > kMaxStepped) {
      return malformed(part, str_cat("more than ", kMaxStepped, " ranges with a step"));
    }
  }
  if (std::optional<Failure> duplicate = find_duplicate(spec.ranges_)) return *duplicate;
  spec.size_ = static_cast<TaskIndex>(size);
  return spec;
}

Result<ArraySpec::Range> ArraySpec::parse_range(std::string_view text) {
  const std::string_view part = text;
  std::optional<std::string_view> step_text = cut(text, ':');
  const std::optional<std::string_view> last_text = cut(text, '-');
  if (step_text && !last_text) return malformed(part, "a step needs a range: A-B:STEP");

  const Result<uint64_t> first = parse_number(text, 0, part, "index");
  if (!first) return first.failure();
  if (!last_text) return Range{*first, *first};
  const Result<uint64_t> last = parse_number(*last_text, 0, part, "index");
  if (!last) return last.failure();
  const Result<uint64_t> step = step_text ? parse_number(*step_text, 1, part, "step") : 1;
  if (!step) return step.failure();
  if (*last < *first) {
    return malformed(part, str_cat("ends before it begins; write ", *last, "-", *first));
  }
  Range range{*first, *last - (*last - *first) % *step, *step};
  if (range.first == range.last) range.step = 1;
  return range;
}

// Ranges in the order of their beginnings: each is compared with those that have not ended before
// it. Two without a step that overlap share an index at once, so only steps make this slow.
std::optional<Failure> ArraySpec::find_duplicate(std::vector<Range> ranges) {
  std::ranges::sort(ranges, {}, &Range::first);
  std::vector<const Range*> open;
  for (const Range& range : ranges) {
    std::erase_if(open, [&](const Range* other) { return other->last < range.first; });
    for (const Range* other : open) {
      if (const auto index = shared_index(*other, range)) {
        return malformed(range_text(range),
                         str_cat("index ", *index, " occurs in '", range_text(*other), "' too"));
      }
    }
    open.push_back(&range);
  }
  return std::nullopt;
}

// The lowest one, by the Chinese remainder theorem.
std::optional<uint64_t> ArraySpec::shared_index(const Range& left, const Range& right) {
  const uint64_t lowest = std::max(left.first, right.first);
  const uint64_t highest = std::min(left.last, right.last);
  if (lowest > highest) return std::nullopt;

  const Range& from = left.first > right.first ? left : right;  // begins at `lowest`
  const Range& to = left.first > right.first ? right : left;
  // lowest + k * from.step = to.first + j * to.step, for the smallest k >= 0.
  const uint64_t gcd = std::gcd(from.step, to.step);
  const uint64_t gap = (to.step - (lowest - to.first) % to.step) % to.step;
  if (gap % gcd != 0) return std::nullopt;
  const uint64_t modulus = to.step / gcd;
  // The product of two numbers below 10^15 (kMaxIndex) does not fit 64 bits.
  __extension__ using Wide = unsigned __int128;
  const Wide k = modulus == 1 ? 0 : Wide{gap / gcd} * inverse(from.step / gcd, modulus) % modulus;
  const Wide index = lowest + k * from.step;
  if (index > highest) return std::nullopt;
  return static_cast<uint64_t>(index);
}

uint64_t ArraySpec::index(TaskIndex task) const {
  LONGHAUL_CHECK(task < size_);
  const auto behind = std::ranges::upper_bound(ranges_, task, {}, &Range::first_task);
  const Range& range = *std::prev(behind);
  return range.first + (task - range.first_task) * range.step;
}

std::optional<TaskIndex> ArraySpec::task(uint64_t index) const {
  for (const Range& range : ranges_) {
    if (index < range.first || index > range.last) continue;
    const uint64_t distance = index - range.first;
    if (distance % range.step == 0) {
      return range.first_task + static_cast<TaskIndex>(distance / range.step);
    }
  }
  return std::nullopt;
}

std::string ArraySpec::range_text(const Range& range) {
  if (range.first == range.last) return str_cat(range.first);
  const std::string text = str_cat(range.first, "-", range.last);
  return range.step == 1 ? text : str_cat(text, ":", range.step);
}

std::string ArraySpec::text() const {
  std::vector<std::string> parts;
  parts.reserve(ranges_.size());
  for (const Range& range : ranges_) parts.push_back(range_text(range));
  const std::string text = join(parts, ",");
  return max_at_once_ ? str_cat(text, "%", *max_at_once_) : text;
}

}  // namespace longhaul
