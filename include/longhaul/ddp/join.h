// Training on uneven inputs: PyTorch's Join. A rank that has no more batches takes part in what the
// others exchange, with gradients of zero, until all are through; then every rank has the model of
// those that came last.
//
//   longhaul::Join join(ddp);                    // or several: Join join(generator, critic);
//   for (auto& batch : *loader) {                // fewer batches on some ranks
//     optimizer.zero_grad();
//     loss_of(ddp(batch.data), batch.target).backward();
//     optimizer.step();
//   }
//   join.finish();
//
// Every rank makes it at the same point, and within it all ranks that still have inputs run the
// same passes of the same models, one model's backward pass behind the other's; the models
// themselves do not change (no freezing, no loading). Collectives of your own, SyncBatchNorm's too,
// are not taken part in: use throw_on_early_end with them. Buffers are those of the highest rank
// that still has inputs.
//
// Costs a small exchange per pass.
//
// Thread safety: the thread that trains. It may outlive the wrapped models.
#pragma once

#include <initializer_list>
#include <memory>
#include <vector>

#include "longhaul/ddp/distributed_data_parallel.h"

namespace longhaul {

struct JoinOptions {
  // Gradients are divided by the world's size, so that every batch counts alike. Else by how many
  // ranks still had inputs; that takes codec none and no hook.
  bool divide_by_initial_world_size = true;
  // As soon as one rank is through, all throw: that one in finish(), the others in their next
  // forward pass, Error(kUnavailable), which names the ranks.
  bool throw_on_early_end = false;
};

class JoinGroup;

class [[nodiscard]] Join {
 public:
  template <typename... Models>
  explicit Join(DistributedDataParallel<Models>&... models) : Join(JoinOptions{}, models...) {}
  template <typename... Models>
  explicit Join(const JoinOptions& options, DistributedDataParallel<Models>&... models)
      : Join(options, {models.core_...}) {}
  // Without finish() the other ranks' next collective fails.
  ~Join();
  Join(const Join&) = delete;
  Join& operator=(const Join&) = delete;

  // This rank has no more inputs. Returns when no rank has. Errors: CollectiveError, Error.
  void finish();

 private:
  using Cores = std::vector<std::shared_ptr<detail::DdpCore>>;
  Join(const JoinOptions& options, Cores cores);
  void leave();

  Cores cores_;
  std::shared_ptr<JoinGroup> group_;
};

}  // namespace longhaul
