#include "ddp/codec_hook.h"

namespace longhaul {

CodecHook::CodecHook(std::shared_ptr<Communicator> communicator, const CodecSpec& spec,
                     const std::atomic<uint64_t>& step)
    : scale_(1.0 / communicator->size()), step_(step), allreduce_(std::move(communicator), spec) {}

// With a hook the Reducer does not divide by the world size: the scale does.
c10::intrusive_ptr<c10::ivalue::Future> CodecHook::runHook(c10d::GradBucket& bucket) {
  return allreduce_.start(bucket.getBufferRef(), scale_, step_.load(),
                          static_cast<uint32_t>(bucket.getIndex()));
}

at::Tensor CodecHook::parseHookResult(const c10::IValue& result) {
  return c10d::detail::parseCppCommHookResult(result);
}

}  // namespace longhaul
