// Reductions of the ranks' values, element by element, in Gloo's order and with its bits
// (gloo_order.h).
#pragma once

#include <c10/core/ScalarType.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

#include <vector>

#include "longhaul/base/bytes.h"

namespace longhaul {

// Throws c10::Error where values of this type cannot be reduced so. AVG is a sum, divided
// afterwards.
void check_reduction(const char* operation, c10::ScalarType type, const c10d::ReduceOp& op);

// `values`: by rank, each `out`.size() bytes; those of `owner` may be `out` itself. What is done
// for the chunk of `owner`.
void reduce_elements(c10::ScalarType type, const c10d::ReduceOp& op, int owner,
                     const std::vector<const uint8_t*>& values, MutableByteSpan out);

}  // namespace longhaul
