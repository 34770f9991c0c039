#include "agent/client/coordinator_proto.h"

#include <string>
#include <utility>
#include <vector>

#include "base/capped.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

// The innermost frames, which come first.
std::vector<std::string> capped_stack(std::vector<std::string> frames) {
  if (frames.size() > limits::kLines) frames.resize(limits::kLines);
  return capped(std::move(frames), limits::kLines, limits::kLine);
}

}  // namespace

v1::Progress to_proto(const RankProgress& progress) {
  v1::Progress out;
  out.set_step(progress.step);
  out.set_total_steps(progress.total_steps);
  if (progress.has_loss) out.set_loss(progress.loss);
  out.set_tokens_per_second(progress.tokens_per_second);
  out.set_communication_share(progress.communication_share);
  out.set_bytes_raw(progress.bytes_raw);
  out.set_bytes_sent(progress.bytes_sent);
  out.set_codec(capped(progress.codec, limits::kWord));
  out.set_collective_sequence(progress.collective_sequence);
  out.set_operation(capped(progress.operation, limits::kWord));
  const std::vector<std::string> stack = capped_stack(progress.stack);
  out.mutable_stack()->Assign(stack.begin(), stack.end());
  return out;
}

RankProgress from_proto(const v1::Progress& progress) {
  RankProgress out;
  out.step = progress.step();
  out.total_steps = progress.total_steps();
  out.has_loss = progress.has_loss();
  out.loss = progress.loss();
  out.tokens_per_second = progress.tokens_per_second();
  out.communication_share = progress.communication_share();
  out.bytes_raw = progress.bytes_raw();
  out.bytes_sent = progress.bytes_sent();
  out.codec = capped(progress.codec(), limits::kWord);
  out.collective_sequence = progress.collective_sequence();
  out.operation = capped(progress.operation(), limits::kWord);
  out.stack = capped_stack({progress.stack().begin(), progress.stack().end()});
  return out;
}

v1::Fault to_proto(const RankFault& fault) {
  v1::Fault out;
  out.set_kind(std::string(to_string(fault.kind)));
  out.set_message(capped(fault.message, limits::kSentence));
  out.set_peer(fault.peer);
  return out;
}

RankFault from_proto(const v1::Fault& fault) {
  return {error_kind_from(fault.kind()), capped(fault.message(), limits::kSentence), fault.peer()};
}

void cap(v1::Progress* progress) {
  progress->set_codec(capped(progress->codec(), limits::kWord));
  progress->set_operation(capped(progress->operation(), limits::kWord));
  const auto stack = capped_stack({progress->stack().begin(), progress->stack().end()});
  progress->mutable_stack()->Assign(stack.begin(), stack.end());
}

void cap(v1::Fault* fault) {
  fault->set_kind(capped(fault->kind(), limits::kWord));
  fault->set_message(capped(fault->message(), limits::kSentence));
}

}  // namespace longhaul
