// Room for the bytes of packets on their way: slots of one size, used again as they come free.
// Thread safety: one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "longhaul/base/bytes.h"

namespace longhaul::linkem {

class PacketStore {
 public:
  explicit PacketStore(uint32_t slot_bytes) : slot_bytes_(slot_bytes) {}

  uint32_t acquire() {
    if (free_.empty()) grow();
    const uint32_t id = free_.back();
    free_.pop_back();
    return id;
  }
  void release(uint32_t id) { free_.push_back(id); }

  MutableByteSpan bytes(uint32_t id) {
    return {blocks_[id / kBlockSlots].get() + size_t{id % kBlockSlots} * slot_bytes_, slot_bytes_};
  }

 private:
  static constexpr uint32_t kBlockSlots = 1024;

  void grow() {
    const auto first = static_cast<uint32_t>(blocks_.size() * kBlockSlots);
    blocks_.push_back(std::make_unique<uint8_t[]>(size_t{kBlockSlots} * slot_bytes_));
    // The lowest on top, so that little traffic stays in little memory.
    for (uint32_t i = kBlockSlots; i > 0; --i) free_.push_back(first + i - 1);
  }

  const uint32_t slot_bytes_;
  std::vector<std::unique_ptr<uint8_t[]>> blocks_;
  std::vector<uint32_t> free_;
};

}  // namespace longhaul::linkem
