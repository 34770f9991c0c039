#include "collectives/nccl_backend.h"

#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace longhaul {

#ifdef USE_C10D_NCCL

c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const CommunicatorOptions& options) {
  auto nccl_options = c10d::ProcessGroupNCCL::Options::create();
  nccl_options->timeout = options.timeout;
  auto backend =
      c10::make_intrusive<c10d::ProcessGroupNCCL>(store, options.rank, options.size, nccl_options);
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
