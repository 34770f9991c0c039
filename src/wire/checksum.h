// XXH3 (64 bits) of bytes that come piece by piece. Finds damage, not malice.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

namespace longhaul {

class Checksum {
 public:
  Checksum();
  ~Checksum();
  Checksum(Checksum&&) noexcept;
  Checksum& operator=(Checksum&&) noexcept;

  void update(std::string_view bytes);
  // Of all bytes so far; more may follow.
  uint64_t value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longhaul
