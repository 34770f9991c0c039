#include "collectives/reduce_elements.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "collectives/gloo_order.h"

namespace longhaul {
namespace {

using Op = c10d::ReduceOp::RedOpType;

// So many bytes of each rank's values are worked on at once: they stay in the processor's cache.
constexpr size_t kBlock = size_t{16} << 10;

bool is_whole(c10::ScalarType type) {
  return c10::isIntegralType(type, /*includeBool=*/true);
}

// acc[i] = combine(own[i], acc[i])
template <typename T, typename Combine>
void combine_all(T* acc, const T* own, size_t count, const Combine& combine) {
  for (size_t i = 0; i < count; ++i) acc[i] = combine(own[i], acc[i]);
}

// Whole numbers wrap around, as Gloo's do; of signed ones C++ leaves that open.
template <typename T>
T sum_of(T own, T acc) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(own) + static_cast<Unsigned>(acc));
  } else {
    return gloo_sum(own, acc);
  }
}

template <typename T>
T product_of(T own, T acc) {
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(own) * static_cast<Unsigned>(acc));
  } else {
    return gloo_product(own, acc);
  }
}

template <typename T>
void combine(Op op, T* acc, const T* own, size_t count) {
  switch (op) {
    case Op::SUM:
    case Op::AVG:
      return combine_all(acc, own, count, sum_of<T>);
    case Op::PRODUCT:
      return combine_all(acc, own, count, product_of<T>);
    case Op::MIN:
      return combine_all(acc, own, count, gloo_min<T>);
    case Op::MAX:
      return combine_all(acc, own, count, gloo_max<T>);
    default:
      break;
  }
  if constexpr (std::is_integral_v<T>) {
    if (op == Op::BAND) {
      return combine_all(acc, own, count, [](T a, T b) { return static_cast<T>(a & b); });
    }
    if (op == Op::BOR) {
      return combine_all(acc, own, count, [](T a, T b) { return static_cast<T>(a | b); });
    }
    if (op == Op::BXOR) {
      return combine_all(acc, own, count, [](T a, T b) { return static_cast<T>(a ^ b); });
    }
  }
}

// Of bools: a sum is "or", a product "and". Gloo adds their bytes, and leaves a bool that is 2.
Op of_bools(Op op) {
  if (op == Op::SUM || op == Op::MAX) return Op::BOR;
  if (op == Op::PRODUCT || op == Op::MIN) return Op::BAND;
  return op;
}

template <typename T>
void reduce(Op op, int owner, const std::vector<const uint8_t*>& values, MutableByteSpan out) {
  const auto ranks = static_cast<int>(values.size());
  const auto value_of = [&](int step, size_t at) {
    const int rank = gloo_rank_at(owner, step, ranks);
    return reinterpret_cast<const T*>(values[static_cast<size_t>(rank)] + at);
  };
  std::vector<T> acc(std::min(kBlock, out.size()) / sizeof(T));
  for (size_t at = 0; at < out.size(); at += kBlock) {
    const size_t bytes = std::min(kBlock, out.size() - at);
    const size_t count = bytes / sizeof(T);
    std::copy_n(value_of(0, at), count, acc.begin());
    for (int step = 1; step < ranks; ++step) combine(op, acc.data(), value_of(step, at), count);
    std::memcpy(out.data() + at, acc.data(), bytes);
  }
}

}  // namespace

void check_reduction(const char* operation, c10::ScalarType type, const c10d::ReduceOp& op) {
  switch (type) {
    case c10::kFloat:
    case c10::kDouble:
    case c10::kHalf:
    case c10::kBFloat16:
    case c10::kChar:
    case c10::kByte:
    case c10::kBool:
    case c10::kInt:
    case c10::kLong:
      break;
    default:
      TORCH_CHECK(false, operation, ": elements of type ", type, " cannot be reduced over links");
  }
  switch (op.op_) {
    case Op::SUM:
    case Op::PRODUCT:
    case Op::MIN:
    case Op::MAX:
      return;
    case Op::AVG:
      TORCH_CHECK(!is_whole(type), operation, ": whole numbers have no average; use a sum");
      return;
    case Op::BAND:
    case Op::BOR:
    case Op::BXOR:
      TORCH_CHECK(is_whole(type), operation, ": bitwise operations are for whole numbers, not ",
                  type);
      return;
    default:
      TORCH_CHECK(false, operation,
                  ": this ReduceOp is not for links (PREMUL_SUM is NCCL's alone)");
  }
}

void reduce_elements(c10::ScalarType type, const c10d::ReduceOp& op, int owner,
                     const std::vector<const uint8_t*>& values, MutableByteSpan out) {
  const Op kind = op.op_;
  switch (type) {
    case c10::kFloat:
      return reduce<float>(kind, owner, values, out);
    case c10::kDouble:
      return reduce<double>(kind, owner, values, out);
    case c10::kHalf:
      return reduce<c10::Half>(kind, owner, values, out);
    case c10::kBFloat16:
      return reduce<c10::BFloat16>(kind, owner, values, out);
    case c10::kChar:
      return reduce<int8_t>(kind, owner, values, out);
    case c10::kByte:
      return reduce<uint8_t>(kind, owner, values, out);
    case c10::kBool:
      return reduce<uint8_t>(of_bools(kind), owner, values, out);
    case c10::kInt:
      return reduce<int32_t>(kind, owner, values, out);
    case c10::kLong:
      return reduce<int64_t>(kind, owner, values, out);
    default:
      TORCH_CHECK(false, "elements of type ", type, " cannot be reduced over links");
  }
}

}  // namespace longhaul
