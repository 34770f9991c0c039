// All-reduce of a flat tensor through a codec: the same bits on every rank, and with a lossless
// codec those of the exact sum in rank order.
//
// Two-shot (docs/compression.md): the tensor is cut into one chunk per rank; every rank sends chunk
// r, encoded, to rank r (a direct exchange); the owner adds what it decoded in rank order 0, 1, ...
// n-1, scales, encodes the result once and sends the same bytes to everybody; every rank, the owner
// too, applies the decoded bytes. 2(n-1)/n of the payload, two rounds. For two ranks, and for small
// tensors of three or four: everybody sends all of it to everybody and all add in rank order; one
// round. Large tensors go in pieces, several of which are under way at once.
//
// fp32 and fp64 add in their own type; bf16 and fp16 add in fp32 and round once.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "longhaul/codec/codec_spec.h"
#include "longhaul/collectives/communicator.h"

namespace c10::ivalue {
struct Future;
}

namespace longhaul {

// Thread safety: start() from one thread, in the same order with the same (step, bucket) on every
// rank. The work itself runs on threads of the object.
class CompressedAllreduce {
 public:
  // Collective: every rank makes it at the same point. Errors: CollectiveError when ranks disagree
  // on the codec, naming both.
  // `specs` are the codecs that start() may name, one or several, in the same order everywhere.
  CompressedAllreduce(std::shared_ptr<Communicator> communicator,
                      const std::vector<CodecSpec>& specs);
  // Finishes or fails what is queued, then joins the thread.
  ~CompressedAllreduce();

  // Queues the reduction of `tensor` (contiguous, floating, any size, any device) to scale * sum
  // over ranks, in place, and returns at once. The future holds {tensor} or a CollectiveError.
  // `codec`: which of the specs, the same on every rank. Throws Error(kInvalid) for a tensor that
  // it cannot take.
  // `residual` (fp32 on the CPU, as many elements as the fp32 tensor; undefined: none) is added to
  // the tensor before it is encoded, and then holds what the codec dropped of it; on the owner of a
  // chunk also what the encoding of the result dropped. NaN and Inf leave no residual.
  c10::intrusive_ptr<c10::ivalue::Future> start(at::Tensor tensor, double scale, uint64_t step,
                                                uint32_t bucket, size_t codec = 0,
                                                at::Tensor residual = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace longhaul
