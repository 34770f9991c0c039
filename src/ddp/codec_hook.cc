#include "ddp/codec_hook.h"

namespace longhaul {

namespace {

std::unique_ptr<AutoCodec> auto_codec_for(const std::shared_ptr<Communicator>& communicator,
                                          const CodecSpec& spec) {
  if (spec.kind != CodecSpec::Kind::kAuto) return nullptr;
  return std::make_unique<AutoCodec>(communicator, spec);
}

}  // namespace

CodecHook::CodecHook(const std::shared_ptr<Communicator>& communicator, const CodecSpec& spec,
                     const std::atomic<uint64_t>& step,
                     std::shared_ptr<ErrorFeedback> error_feedback)
    : scale_(1.0 / communicator->size()),
      step_(step),
      error_feedback_(std::move(error_feedback)),
      auto_codec_(auto_codec_for(communicator, spec)),
      allreduce_(communicator, auto_codec_ ? auto_codec_->specs() : std::vector<CodecSpec>{spec}) {
  if (!auto_codec_) communicator->traffic().set_codec(spec.str());
}

// With a hook the Reducer does not divide by the world size: the scale does.
c10::intrusive_ptr<c10::ivalue::Future> CodecHook::runHook(c10d::GradBucket& bucket) {
  const at::Tensor& buffer = bucket.getBufferRef();
  const uint64_t step = step_.load();
  const size_t codec =
      auto_codec_ ? auto_codec_->choose(step, buffer.nbytes(), buffer.scalar_type()) : 0;
  const at::Tensor residual =
      error_feedback_ ? error_feedback_->residual(bucket.getParameters()) : at::Tensor();
  return allreduce_.start(buffer, scale_, step, static_cast<uint32_t>(bucket.getIndex()), codec,
                          residual);
}

at::Tensor CodecHook::parseHookResult(const c10::IValue& result) {
  return c10d::detail::parseCppCommHookResult(result);
}

}  // namespace longhaul
