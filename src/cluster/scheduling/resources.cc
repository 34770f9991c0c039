#include "cluster/scheduling/resources.h"

#include <algorithm>
#include <limits>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Sums of what is asked for may be absurd; they stay huge instead of wrapping.
template <typename Number>
Number sum(Number a, Number b) {
  const Number most = std::numeric_limits<Number>::max();
  return a > most - b ? most : a + b;
}

template <typename Number>
Number product(Number each, int count) {
  const auto times = static_cast<Number>(count);
  const Number most = std::numeric_limits<Number>::max();
  return times > 0 && each > most / times ? most : each * times;
}

}  // namespace

Resources operator+(const Resources& a, const Resources& b) {
  return {sum(a.slots, b.slots), sum(a.gpus, b.gpus), sum(a.memory_bytes, b.memory_bytes)};
}

Resources operator-(const Resources& a, const Resources& b) {
  return {std::max(0, a.slots - b.slots), std::max(0, a.gpus - b.gpus),
          a.memory_bytes - std::min(a.memory_bytes, b.memory_bytes)};
}

Resources operator*(const Resources& each, int count) {
  return {product(each.slots, count), product(each.gpus, count), product(each.memory_bytes, count)};
}

Resources both(const Resources& a, const Resources& b) {
  return {std::min(a.slots, b.slots), std::min(a.gpus, b.gpus),
          std::min(a.memory_bytes, b.memory_bytes)};
}

int how_many(const Resources& room, const Resources& each) {
  int count = room.slots / each.slots;
  if (each.gpus > 0) count = std::min(count, room.gpus / each.gpus);
  if (each.memory_bytes > 0) {
    const uint64_t fit = room.memory_bytes / each.memory_bytes;
    count = static_cast<int>(std::min(static_cast<uint64_t>(count), fit));
  }
  return count;
}

std::string beyond_slots(const Resources& each) {
  std::string text;
  if (each.gpus > 0) text = str_cat(each.gpus, each.gpus == 1 ? " GPU" : " GPUs");
  if (each.memory_bytes > 0) {
    text += str_cat(text.empty() ? "" : " and ", format_bytes(each.memory_bytes));
  }
  return text;
}

}  // namespace longhaul
