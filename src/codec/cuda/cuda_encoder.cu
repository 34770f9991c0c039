#include "codec/cuda/cuda_encoder.h"

#include "codec/cuda/payload_encoder.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using cuda::BucketTask;
using cuda::Slots;
using cuda::Team;

__global__ void __launch_bounds__(Team::kThreads) encode_tiles(BucketTask task, Slots slots) {
  __shared__ cuda::TileMemory memory;
  const uint32_t tile = blockIdx.x;
  uint32_t* const slot = slots.words + tile * cuda::slot_words(task.width);
  const uint32_t bytes = cuda::encode_tile({}, task.tile(tile), task.rice, memory, slot);
  if (threadIdx.x == 0) slots.stored_bytes[tile] = bytes;
}

__global__ void __launch_bounds__(Team::kThreads)
    place_tiles(BucketTask task, Slots slots, uint8_t* payload, uint64_t* payload_bytes) {
  __shared__ cuda::PlacingMemory memory;
  cuda::place_tiles({}, task, slots, memory, payload, payload_bytes);
}

__global__ void __launch_bounds__(Team::kThreads)
    move_tiles(Slots slots, uint32_t width, uint8_t* payload) {
  cuda::move_tile({}, slots, blockIdx.x, width, payload);
}

PayloadShape shape_of(const CodecSpec& spec, ElementType type, size_t element_count) {
  return {spec.kind, type, element_count, kQuantizedTileElements, spec.block};
}

// The widest alignment first.
Slots cut(void* workspace, size_t tiles) {
  Slots slots;
  slots.payload_at = static_cast<uint64_t*>(workspace);
  slots.stored_bytes = reinterpret_cast<uint32_t*>(slots.payload_at + tiles);
  slots.words = slots.stored_bytes + tiles;
  return slots;
}

Result<void> launched() {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return {};
  return Failure{ErrorKind::kInternal,
                 str_cat("encoding on the device: ", cudaGetErrorString(error))};
}

}  // namespace

Result<void> check_cuda_supports(const CodecSpec& spec) {
  const bool quantized = spec.kind == CodecSpec::Kind::kInt8 || spec.kind == CodecSpec::Kind::kRms;
  if (quantized && spec.stage != CodecSpec::Stage::kHuffman && spec.valid()) return {};
  return Failure{ErrorKind::kInvalid, str_cat("codec ", spec.str(),
                                              " has no encoder on CUDA devices (int8 and rms have, "
                                              "with stage=packed or stage=rice)")};
}

CudaEncodeRoom cuda_encode_room(const CodecSpec& spec, ElementType type, size_t element_count) {
  const PayloadShape shape = shape_of(spec, type, element_count);
  const size_t slot_bytes =
      cuda::slot_words(static_cast<uint32_t>(element_bytes(type))) * sizeof(uint32_t);
  return {shape.most_payload_bytes(),
          shape.tiles() * (slot_bytes + sizeof(uint32_t) + sizeof(uint64_t))};
}

Result<void> cuda_encode(const CodecSpec& spec, ElementType type, const CudaEncodeBuffers& buffers,
                         const EncodeContext& context, CUstream_st* stream) {
  const Result<void> supported = check_cuda_supports(spec);
  if (!supported) return supported;
  const BucketTask task =
      cuda::bucket_task(spec, type, buffers.elements, buffers.element_count, context);
  const uint32_t tiles = task.tiles();
  const Slots slots = cut(buffers.workspace, tiles);
  if (tiles > 0) encode_tiles<<<tiles, Team::kThreads, 0, stream>>>(task, slots);
  place_tiles<<<1, Team::kThreads, 0, stream>>>(task, slots, buffers.payload,
                                                buffers.payload_bytes);
  if (tiles > 0) {
    move_tiles<<<tiles, Team::kThreads, 0, stream>>>(slots, task.width, buffers.payload);
  }
  return launched();
}

}  // namespace longhaul
