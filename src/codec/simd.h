// Instruction sets that the codecs have code of their own for. They change the speed, never the
// bytes: every kernel gives what its scalar reference gives, in payloads and in decoded elements.
#pragma once

#include <string_view>

namespace longhaul {

enum class SimdLevel {
  kScalar,
  kAvx2,    // with BMI2 and F16C (Haswell, Zen)
  kAvx512,  // with BW, DQ, VL and VBMI too (Ice Lake, Zen 4)
};

// The best that this processor has.
SimdLevel best_simd_level();

// "scalar", "avx2", "avx512".
std::string_view to_string(SimdLevel level);

}  // namespace longhaul

// Marks functions that may use a level's instructions; only where best_simd_level() reaches it may
// they be called. This room is compiled with -ffp-contract=off: AVX-512 brings fused multiply-add
// with it, and a compiler that fused a product with a sum would give other bits than the scalar
// reference.
#define LONGHAUL_AVX2 __attribute__((target("avx2,bmi,bmi2,popcnt,f16c")))
#define LONGHAUL_AVX512                                                      \
  __attribute__((                                                            \
      target("avx2,bmi,bmi2,popcnt,f16c,avx512f,avx512bw,avx512dq,avx512vl," \
             "avx512vbmi")))
