// Random identities, the one place where they come from: what tells one life of a state, one start
// of a worker, one submission from every other, and secrets that name one rank. From the kernel's
// generator, which does not run dry and is not seeded by us.
//
// Thread safety: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace longhaul {

void fill_random(void* bytes, size_t size);

uint64_t random_number();

// 128 bits as 32 hexadecimal digits.
std::string random_id();

}  // namespace longhaul
