#include "ddp/wrapped_parameters.h"

#include <torch/csrc/autograd/variable.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>

#include <unordered_set>
#include <utility>

#include "ddp/names.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using torch::nn::Module;

bool has_sparse_gradients(const Module& module) {
  if (const auto* embedding = dynamic_cast<const torch::nn::EmbeddingImpl*>(&module))
    return embedding->options.sparse();
  if (const auto* bag = dynamic_cast<const torch::nn::EmbeddingBagImpl*>(&module))
    return bag->options.sparse();
  return false;
}

// In the order of named_modules(), without making names: this runs before every forward pass.
template <typename Visit>
void visit_parameters(const Module& module, const Visit& visit) {
  for (const at::Tensor& parameter : module.parameters(/*recurse=*/false)) visit(parameter);
  for (const auto& child : module.children()) visit_parameters(*child, visit);
}

template <typename Visit>
void visit_named_parameters(const Module& root, const Visit& visit) {
  const auto visit_own = [&](const std::string& prefix, const Module& module) {
    for (const auto& item : module.named_parameters(/*recurse=*/false)) {
      visit(module, prefix.empty() ? item.key() : prefix + "." + item.key(), item.value());
    }
  };
  visit_own("", root);
  for (const auto& item : root.named_modules("", /*include_self=*/false))
    visit_own(item.key(), *item.value());
}

const void* memory_of(const at::Tensor& tensor) {
  return tensor.has_storage() ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}

}  // namespace

TrainedParameters trained_parameters(const Module& root, const std::vector<std::string>& left_out) {
  TrainedParameters trained;
  std::unordered_set<c10::TensorImpl*> seen;
  visit_named_parameters(
      root, [&](const Module& module, const std::string& name, const at::Tensor& parameter) {
        if (is_among(left_out, name)) return;
        if (!parameter.requires_grad() || !seen.insert(parameter.unsafeGetTensorImpl()).second)
          return;
        trained.tensors.push_back(parameter);
        trained.expect_sparse.push_back(has_sparse_gradients(module));
        trained.names.push_back(name);
      });
  return trained;
}

HookedParameters::HookedParameters(const Module& root, const std::vector<std::string>& left_out) {
  visit_named_parameters(root,
                         [&](const Module&, const std::string& name, const at::Tensor& parameter) {
                           entries_.push_back(entry_of(parameter));
                           entries_.back().name = name;
                           entries_.back().left_out = is_among(left_out, name);
                         });
}

// Inference tensors have no version.
uint32_t HookedParameters::version_of(const at::Tensor& tensor) {
  return tensor.is_inference() ? 0 : static_cast<uint32_t>(tensor._version());
}

HookedParameters::Entry HookedParameters::entry_of(const at::Tensor& parameter) {
  Entry entry;
  entry.tensor = parameter;
  entry.trained = parameter.requires_grad();
  entry.options = parameter.options();
  entry.sizes = parameter.sizes().vec();
  if (entry.trained) {
    entry.accumulator = torch::autograd::impl::try_get_grad_accumulator(parameter).get();
  }
  entry.memory = memory_of(parameter);
  entry.version = version_of(parameter);
  return entry;
}

std::string HookedParameters::describe(const Entry& before, const Entry& now) {
  const std::string who = str_cat("parameter '", before.name, "' ");
  if (before.trained != now.trained) return who + (now.trained ? "was unfrozen" : "was frozen");
  if (before.options.dtype() != now.options.dtype())
    return str_cat(who, "became ", now.options.dtype().name());
  if (before.options.device() != now.options.device())
    return str_cat(who, "moved to ", now.options.device());
  if (before.sizes != now.sizes) return str_cat(who, "has other sizes now");
  return who + "was replaced";
}

std::optional<HookedParameters::Change> HookedParameters::change(const Module& root) const {
  size_t count = 0;
  bool trains = false;
  std::optional<std::string> what;
  visit_parameters(root, [&](const at::Tensor& parameter) {
    trains = trains || parameter.requires_grad();
    const size_t i = count++;
    if (what || i >= entries_.size() || entries_[i].left_out) return;
    const Entry& before = entries_[i];
    const bool same_tensor =
        parameter.is_same(before.tensor) && parameter.requires_grad() == before.trained &&
        parameter.dtype() == before.options.dtype() &&
        parameter.device() == before.options.device() && parameter.sizes() == before.sizes;
    // Hooks hang on the gradient accumulator. A tensor that was given another one (by set_data() of
    // another type, say) is the same tensor without hooks. Ours is held by the hooks, so no new one
    // can have its address.
    const bool hooked =
        !before.trained ||
        torch::autograd::impl::try_get_grad_accumulator(parameter).get() == before.accumulator;
    if (!same_tensor || !hooked) what = describe(before, entry_of(parameter));
  });
  if (!what && count != entries_.size())
    what = str_cat("it has ", count, " parameters, and had ", entries_.size());
  if (!what) return std::nullopt;
  return Change{*what, !trains};
}

// Versions count in-place writes and do not tell that a tensor's memory was replaced (by
// set_data()); so that counts on its own, in a unit that no number of writes between two calls
// reaches. Addresses themselves differ between ranks and are not part of the number.
uint64_t HookedParameters::count_changes() {
  constexpr uint64_t kReplaced = uint64_t{1} << 32;
  uint64_t changes = 0;
  for (Entry& entry : entries_) {
    if (entry.left_out) continue;
    const uint32_t version = version_of(entry.tensor);
    const void* memory = memory_of(entry.tensor);
    changes += version - std::exchange(entry.version, version);
    if (memory != std::exchange(entry.memory, memory)) changes += kReplaced;
  }
  return changes;
}

}  // namespace longhaul
