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
    : communicator_(communicator),
      scale_(1.0 / communicator->size()),
      step_(step),
      error_feedback_(std::move(error_feedback)),
      auto_codec_(auto_codec_for(communicator, spec)),
      allreduce_(communicator, auto_codec_ ? auto_codec_->specs() : std::vector<CodecSpec>{spec}) {
  if (!auto_codec_) communicator->traffic().set_codec(spec.str());
}

// With a hook the Reducer does not divide by the world size: the scale does. In a backward pass
// this runs on a thread of the autograd engine with the Reducer's lock held, bucket after bucket in
// order; so it only queues the work and returns.
c10::intrusive_ptr<c10::ivalue::Future> CodecHook::runHook(c10d::GradBucket& bucket) {
  const at::Tensor& buffer = bucket.getBufferRef();
  const uint64_t step = step_.load();
  const size_t codec =
      auto_codec_ ? auto_codec_->choose(step, buffer.nbytes(), buffer.scalar_type()) : 0;
  if (auto_codec_ && auto_codec_->is_raw(codec)) return average_raw(buffer);
  const at::Tensor residual =
      error_feedback_ ? error_feedback_->residual(bucket.getParameters()) : at::Tensor();
  return allreduce_.start(buffer, scale_, step, static_cast<uint32_t>(bucket.getIndex()), codec,
                          residual);
}

c10::intrusive_ptr<c10::ivalue::Future> CodecHook::average_raw(at::Tensor buffer) {
  buffer.mul_(scale_);  // as the Reducer does without a hook
  std::vector<at::Tensor> tensors = {std::move(buffer)};
  return communicator_->process_group()->allreduce(tensors)->getFuture();
}

at::Tensor CodecHook::parseHookResult(const c10::IValue& result) {
  return c10d::detail::parseCppCommHookResult(result);
}

}  // namespace longhaul
