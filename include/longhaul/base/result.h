// Result<T>: a T, or the Failure that stood in its way. Below the public surface every expected
// failure (a peer died, time ran out, bytes are corrupt) is returned as one of these.
//
//   Result<Listener> listener = Listener::bind("127.0.0.1", 0);
//   if (!listener) return listener.failure();
//   use(*listener);
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "longhaul/base/error.h"

namespace longhaul {

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Failure failure) : state_(std::in_place_index<1>, std::move(failure)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // Precondition: ok(). Throws std::bad_variant_access otherwise.
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  // Precondition: !ok().
  const Failure& failure() const { return std::get<1>(state_); }

  // The value, or the failure thrown as longhaul::Error: the step from values to exceptions.
  T value_or_throw() && {
    if (!ok()) throw Error(failure());
    return std::get<0>(std::move(state_));
  }

 private:
  std::variant<T, Failure> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Failure failure) : failure_(std::move(failure)) {}

  bool ok() const { return !failure_; }
  explicit operator bool() const { return ok(); }
  const Failure& failure() const { return *failure_; }
  void value_or_throw() const {
    if (failure_) throw Error(*failure_);
  }

 private:
  std::optional<Failure> failure_;
};

}  // namespace longhaul
