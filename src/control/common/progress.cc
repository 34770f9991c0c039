#include "control/common/progress.h"

#include <string>

#include "control/common/grpc_error.h"

namespace longhaul {

v1::Progress to_proto(const RankProgress& progress) {
  v1::Progress out;
  out.set_step(progress.step);
  out.set_total_steps(progress.total_steps);
  if (progress.has_loss) out.set_loss(progress.loss);
  out.set_tokens_per_second(progress.tokens_per_second);
  out.set_communication_share(progress.communication_share);
  out.set_bytes_raw(progress.bytes_raw);
  out.set_bytes_sent(progress.bytes_sent);
  out.set_codec(progress.codec);
  out.set_collective_sequence(progress.collective_sequence);
  out.set_operation(progress.operation);
  out.mutable_stack()->Assign(progress.stack.begin(), progress.stack.end());
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
  out.codec = progress.codec();
  out.collective_sequence = progress.collective_sequence();
  out.operation = progress.operation();
  out.stack = {progress.stack().begin(), progress.stack().end()};
  return out;
}

v1::Fault to_proto(const RankFault& fault) {
  v1::Fault out;
  out.set_kind(std::string(to_string(fault.kind)));
  out.set_message(fault.message);
  out.set_peer(fault.peer);
  return out;
}

RankFault from_proto(const v1::Fault& fault) {
  return {error_kind_from(fault.kind()), fault.message(), fault.peer()};
}

}  // namespace longhaul
