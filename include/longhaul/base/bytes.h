// Spans of bytes and little-endian numbers in them: everything on Longhaul's wires is
// little-endian.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace longhaul {

static_assert(std::endian::native == std::endian::little,
              "Longhaul's wire formats are little-endian and are read in place");

using ByteSpan = std::span<const uint8_t>;
using MutableByteSpan = std::span<uint8_t>;

// Unaligned load and store. The caller has checked that sizeof(T) bytes are there.
template <typename T>
T load(const uint8_t* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

template <typename T>
void store(uint8_t* to, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof(T));
}

}  // namespace longhaul
