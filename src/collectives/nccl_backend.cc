#include "collectives/nccl_backend.h"

#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <exception>

#include "base/log.h"
#endif

namespace longhaul {

#ifdef USE_C10D_NCCL
namespace {

// Shuts down before it goes, or it warns of a communicator that was never destroyed.
class OrderlyNccl final : public c10d::ProcessGroupNCCL {
 public:
  using c10d::ProcessGroupNCCL::ProcessGroupNCCL;
  ~OrderlyNccl() override {
    try {
      shutdown();
    } catch (const std::exception& error) {
      log(LogLevel::kWarning, "collectives", "NCCL did not shut down: ", error.what());
    }
  }
};

}  // namespace

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const CommunicatorOptions& options) {
  auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
  nccl_options->timeout = options.timeout;
  auto backend = c10::make_intrusive<OrderlyNccl>(store, options.rank, options.size, nccl_options);
  if (options.device.has_index()) backend->setBoundDeviceId(options.device);
  return backend;
}

#else

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>&,
                                                    const CommunicatorOptions&) {
  throw Error(ErrorKind::kInvalid,
              "CUDA tensors over several ranks need NCCL, and this Longhaul was built without it: "
              "configure with -DLONGHAUL_NCCL=ON");
}

#endif

}  // namespace longhaul
