// Asking for memory before it is needed. The processor does so by itself for streams, but stops at
// every page of 4 KiB, and tiles are read and written in several streams at once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace longhaul {

// How far ahead, in bytes of a stream: about as long as memory takes at the speed of the kernels.
inline constexpr size_t kReadAheadBytes = 4096;
inline constexpr size_t kWriteAheadBytes = 2048;

// The address is a number because it may lie behind the stream's end, which a prefetch does not
// mind.
inline void prefetch(const void* stream, size_t bytes_ahead) {
  __builtin_prefetch(
      reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(stream) + bytes_ahead));
}

}  // namespace longhaul
