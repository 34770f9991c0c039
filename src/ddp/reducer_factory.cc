#include "ddp/reducer_factory.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "longhaul/base/error.h"

namespace longhaul {
namespace {

using Indices = std::vector<std::vector<size_t>>;
using Names = std::unordered_map<size_t, std::string>;

// PyTorch's, by whose names they go: its "MB" are MiB.
constexpr double kBytesPerMb = 1024 * 1024;
constexpr double kDefaultBucketMb = 25;
constexpr double kDefaultFirstBucketMb = 1;

struct BucketCaps {
  std::vector<size_t> at_first;  // of the buckets before the first backward pass
  int64_t first = 0;             // of the rebuilt buckets
  int64_t others = 0;
  std::vector<int64_t> rebuilt_list;  // instead of the two above, when not empty
};

int64_t bytes_of(double mb) {
  return static_cast<int64_t>(mb * kBytesPerMb);
}

// As in Python's DistributedDataParallel.__init__ and _ddp_init_helper. The Reducer rebuilds its
// buckets after the first backward pass, in the order in which gradients came; until then one
// bucket of everything is as good as any. With find_unused_parameters it never rebuilds them
// (unless the graph is static), so they have their final sizes from the start.
BucketCaps bucket_caps(const DistributedDataParallelOptions& options) {
  BucketCaps caps;
  if (!options.bucket_cap_mb_list.empty()) {
    for (const double mb : options.bucket_cap_mb_list) {
      caps.rebuilt_list.push_back(bytes_of(mb));
      caps.at_first.push_back(static_cast<size_t>(bytes_of(mb)));
    }
    caps.others = *std::max_element(caps.rebuilt_list.begin(), caps.rebuilt_list.end());
    caps.first = caps.others;
    return caps;
  }
  const bool is_default = !options.bucket_cap_mb;
  const double others_mb = options.bucket_cap_mb.value_or(kDefaultBucketMb);
  caps.others = bytes_of(others_mb);
  caps.first = bytes_of(
      options.first_bucket_cap_mb.value_or(is_default ? kDefaultFirstBucketMb : others_mb));
  if (options.static_graph || !options.find_unused_parameters) {
    caps.at_first = {static_cast<size_t>(std::numeric_limits<int64_t>::max())};
  } else if (caps.first != caps.others) {
    caps.at_first = {static_cast<size_t>(caps.first), static_cast<size_t>(caps.others)};
  } else {
    caps.at_first = {static_cast<size_t>(caps.others)};
  }
  return caps;
}

// libtorch 2.9 has no list of caps, 2.11 has; asked of the type itself, so that a release between
// them or a backport needs no version number. A template, so that the branch not taken may be
// wrong.
template <typename Reducer>
std::shared_ptr<Reducer> construct(const TrainedParameters& parameters, Indices buckets,
                                   const c10::intrusive_ptr<c10d::ProcessGroup>& process_group,
                                   const DistributedDataParallelOptions& options, Names names,
                                   const BucketCaps& caps) {
  constexpr bool kUsePythonReducer = false;
  constexpr bool kTakesList =
      std::is_constructible_v<Reducer, std::vector<at::Tensor>, Indices,
                              c10::intrusive_ptr<c10d::ProcessGroup>, std::vector<bool>, int64_t,
                              bool, bool, Names, int64_t, bool, bool, std::vector<int64_t>>;
  if constexpr (kTakesList) {
    return std::make_shared<Reducer>(
        parameters.tensors, std::move(buckets), process_group, parameters.expect_sparse,
        caps.others, options.find_unused_parameters, options.gradient_as_bucket_view,
        std::move(names), caps.first, options.skip_all_reduce_unused_params, kUsePythonReducer,
        caps.rebuilt_list);
  } else {
    if (!caps.rebuilt_list.empty())
      throw Error(ErrorKind::kInvalid, "bucket_cap_mb_list needs libtorch >= 2.11");
    return std::make_shared<Reducer>(
        parameters.tensors, std::move(buckets), process_group, parameters.expect_sparse,
        caps.others, options.find_unused_parameters, options.gradient_as_bucket_view,
        std::move(names), caps.first, options.skip_all_reduce_unused_params, kUsePythonReducer);
  }
}

}  // namespace

// As Reducer::should_skip_all_reduce_bucket(), which is private: a bucket is left out when all of
// its parameters are unused.
std::vector<size_t> WatchedReducer::skipped_parameters() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::unordered_set<size_t> unused(unused_parameters_.begin(), unused_parameters_.end());
  std::vector<size_t> skipped;
  for (const Bucket& bucket : buckets_) {
    const auto& indices = bucket.variable_indices;
    const bool used = std::any_of(indices.begin(), indices.end(),
                                  [&](size_t index) { return !unused.contains(index); });
    if (!used) skipped.insert(skipped.end(), indices.begin(), indices.end());
  }
  return skipped;
}

std::shared_ptr<WatchedReducer> make_reducer(
    const TrainedParameters& parameters,
    const c10::intrusive_ptr<c10d::ProcessGroup>& process_group,
    const DistributedDataParallelOptions& options) {
  const BucketCaps caps = bucket_caps(options);
  Indices buckets = std::get<0>(c10d::compute_bucket_assignment_by_size(
      parameters.tensors, caps.at_first, parameters.expect_sparse));
  // Gradients come about in the reverse order of the forward pass, and the Reducer reduces buckets
  // strictly by their index: one that is ready before its turn waits.
  std::reverse(buckets.begin(), buckets.end());
  Names names;
  for (size_t i = 0; i < parameters.names.size(); ++i) names[i] = parameters.names[i];
  return construct<WatchedReducer>(parameters, std::move(buckets), process_group, options,
                                   std::move(names), caps);
}

std::shared_ptr<c10d::Logger> make_logger(const std::shared_ptr<WatchedReducer>& reducer,
                                          const torch::nn::Module& module,
                                          const DistributedDataParallelOptions& options) {
  // These only appear in PyTorch's log, where nothing depends on them.
  constexpr int kNoOutputDevice = -1;
  constexpr bool kHasSyncBatchNorm = false;
  auto logger = std::make_shared<c10d::Logger>(reducer);
  reducer->set_logger(logger);
  logger->set_construction_data_and_log(module.name(), /*device_ids=*/{}, kNoOutputDevice,
                                        options.broadcast_buffers, kHasSyncBatchNorm,
                                        options.static_graph);
  if (options.static_graph) logger->set_static_graph();
  return logger;
}

}  // namespace longhaul
