// Finds the tensors inside whatever a model's forward() returns: a tensor, std::optional, tuple,
// pair, variant, smart pointer, vector, array, map, nested as they like. For a struct of your own,
// say what is in it, in the struct's namespace:
//
//   struct Output { torch::Tensor logits; std::vector<torch::Tensor> states; };
//   template <typename Visitor>
//   void for_each_tensor(Output& output, Visitor&& visit) {
//     visit(output.logits);
//     visit(output.states);
//   }
//
// DistributedDataParallel needs them only with find_unused_parameters or static_graph.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <typeinfo>
#include <variant>
#include <vector>

namespace longhaul::detail {

struct FoundTensors {
  std::vector<at::Tensor*> tensors;
  // A type that was met, and into which nobody can look; null when there was none.
  const std::type_info* opaque = nullptr;
};

template <typename T>
inline constexpr bool kHoldsNoTensor =
    std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_const_v<T> ||
    std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view> ||
    std::is_same_v<T, std::monostate>;

template <typename T>
inline constexpr bool kIsVariant = false;
template <typename... Ts>
inline constexpr bool kIsVariant<std::variant<Ts...>> = true;

// std::optional and smart pointers: something that may hold one value.
template <typename T>
concept MaybeOne = requires(T& value) {
  static_cast<bool>(value);
  *value;
} && !std::is_pointer_v<T> && !std::is_arithmetic_v<T>;

class TensorFinder;

template <typename T>
concept HasOwnSearch = requires(T& value, TensorFinder& finder) { for_each_tensor(value, finder); };

class TensorFinder {
 public:
  explicit TensorFinder(FoundTensors& found) : found_(found) {}

  template <typename T>
  void operator()(T& value) {
    if constexpr (kHoldsNoTensor<T>) {
      return;
    } else if constexpr (std::is_same_v<T, at::Tensor>) {
      found_.tensors.push_back(&value);
    } else if constexpr (HasOwnSearch<T>) {
      for_each_tensor(value, *this);
    } else if constexpr (kIsVariant<T>) {
      std::visit(*this, value);
    } else if constexpr (requires { std::tuple_size<T>::value; }) {
      std::apply([this](auto&... parts) { ((*this)(parts), ...); }, value);
    } else if constexpr (std::ranges::range<T>) {
      if constexpr (!kHoldsNoTensor<std::ranges::range_value_t<T>>) {
        for (auto& element : value) (*this)(element);
      }
    } else if constexpr (MaybeOne<T>) {
      if (value) (*this)(*value);
    } else {
      found_.opaque = &typeid(T);
    }
  }

 private:
  FoundTensors& found_;
};

template <typename T>
FoundTensors find_tensors(T& value) {
  FoundTensors found;
  TensorFinder{found}(value);
  return found;
}

}  // namespace longhaul::detail
