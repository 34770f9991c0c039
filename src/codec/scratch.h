// Memory that a codec works in: allocated once, aligned to cache lines (vectors of 64 bytes that
// cross lines cost twice), not cleared. Pages that are never touched cost nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace longhaul {

inline constexpr size_t kCacheLineBytes = 64;

class Scratch {
 public:
  explicit Scratch(size_t bytes)
      : bytes_(static_cast<uint8_t*>(::operator new(bytes, std::align_val_t{kCacheLineBytes}))) {}

  uint8_t* get() const { return bytes_.get(); }

 private:
  struct Free {
    void operator()(uint8_t* bytes) const {
      ::operator delete(bytes, std::align_val_t{kCacheLineBytes});
    }
  };
  std::unique_ptr<uint8_t, Free> bytes_;
};

}  // namespace longhaul
