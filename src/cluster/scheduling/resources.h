// What a worker has, what is free of it, and what one rank or task needs.
#pragma once

#include <cstdint>
#include <string>

namespace longhaul {

struct Resources {
  int slots = 0;
  int gpus = 0;
  uint64_t memory_bytes = 0;

  bool operator==(const Resources&) const = default;
};

// Never below zero: a worker may come back smaller than what is in use of it.
Resources operator+(const Resources& a, const Resources& b);
Resources operator-(const Resources& a, const Resources& b);
Resources operator*(const Resources& each, int count);
// The smaller of each.
Resources both(const Resources& a, const Resources& b);

// How many of `each` there is room for. Precondition: each.slots > 0.
int how_many(const Resources& room, const Resources& each);

// "2 GPUs and 4.3 GB", "" when only slots are asked for.
std::string beyond_slots(const Resources& each);

}  // namespace longhaul
