#include "ddp/user_hook.h"

#include <string>
#include <utility>
#include <variant>

#include "longhaul/base/error.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using Future = c10::ivalue::Future;
using FuturePtr = c10::intrusive_ptr<Future>;

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "an undefined tensor";
  return str_cat(tensor.numel(), " ", tensor.scalar_type(), " values on ", tensor.device(),
                 tensor.is_contiguous() || tensor.is_sparse() ? "" : ", not contiguous");
}

bool alike(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() && a.layout() == b.layout() && a.numel() == b.numel() &&
         a.scalar_type() == b.scalar_type() && a.device() == b.device() &&
         (a.is_sparse() || a.is_contiguous());
}

at::Tensor checked(const at::Tensor& result, const at::Tensor& buffer, size_t bucket) {
  if (alike(result, buffer)) return result;
  throw Error(ErrorKind::kInvalid,
              str_cat("the communication hook gave ", describe(result), " for bucket ", bucket,
                      ", which is ", describe(buffer)));
}

FuturePtr completed(const at::Tensor& tensor) {
  auto future = c10::make_intrusive<Future>(
      c10::ListType::create(c10::TensorType::get()),
      tensor.is_cuda() ? std::vector<c10::Device>{tensor.device()} : std::vector<c10::Device>{});
  future->markCompleted(c10::IValue(std::vector<at::Tensor>{tensor}));
  return future;
}

}  // namespace

UserHook::UserHook(CommHook hook, const std::atomic<uint64_t>& step)
    : hook_(std::move(hook)), step_(step) {}

FuturePtr UserHook::runHook(c10d::GradBucket& bucket) {
  const at::Tensor& buffer = bucket.getBuffer();
  const size_t index = bucket.getIndex();
  const CommHookResult result =
      hook_({buffer, bucket.getParameters(),
             buffer.is_sparse() ? std::vector<at::Tensor>{buffer} : bucket.getGradients(), index,
             bucket.isLast(), step_.load()});
  if (const auto* tensor = std::get_if<at::Tensor>(&result.value()))
    return completed(checked(*tensor, buffer, index));
  const FuturePtr& future = std::get<FuturePtr>(result.value());
  if (!future)
    throw Error(ErrorKind::kInvalid,
                str_cat("the communication hook gave no future for bucket ", index));
  return future->then(
      [buffer, index](Future& done) -> c10::IValue {
        const at::Tensor tensor = c10d::detail::parseCppCommHookResult(done.value());
        return std::vector<at::Tensor>{checked(tensor, buffer, index)};
      },
      c10::ListType::create(c10::TensorType::get()));
}

at::Tensor UserHook::parseHookResult(const c10::IValue& result) {
  return c10d::detail::parseCppCommHookResult(result);
}

}  // namespace longhaul
