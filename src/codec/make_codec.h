// make_codec() with a say in the instruction set, for tests and benches.
#pragma once

#include <memory>

#include "codec/simd.h"
#include "longhaul/codec/codec.h"

namespace longhaul {

// Precondition: `level` <= best_simd_level().
std::unique_ptr<Codec> make_codec(const CodecSpec& spec, SimdLevel level);

}  // namespace longhaul
