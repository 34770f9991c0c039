// The codecs "int8" and "rms" on a CUDA device: payloads are those of make_codec(spec)->encode() to
// the byte, so whoever decodes them need not know where they were made. What leaves the device is
// then 4 to 20 times less than the gradients. Formats: docs/wire.md.
//
// Needs no CUDA header; a cudaStream_t is a CUstream_st*. Built with LONGHAUL_CUDA.
//
// Thread safety: free functions without state; calls that share no memory may run side by side.
#pragma once

#include <cstddef>
#include <cstdint>

#include "longhaul/codec/codec.h"

struct CUstream_st;

namespace longhaul {

// Whether the device encodes by this spec: `int8` and `rms` with stage packed or rice, any step,
// block and rounding, all element types. Errors: kInvalid, with what it takes.
Result<void> check_cuda_supports(const CodecSpec& spec);

// Device memory that one call needs.
struct CudaEncodeRoom {
  size_t payload_bytes = 0;    // as Codec::max_payload_bytes()
  size_t workspace_bytes = 0;  // a little more than the elements; means nothing between calls
};
CudaEncodeRoom cuda_encode_room(const CodecSpec& spec, ElementType type, size_t element_count);

// Where on the device. Nothing may overlap.
struct CudaEncodeBuffers {
  const void* elements = nullptr;     // element_count of them, aligned as their type
  size_t element_count = 0;           // may be 0; below 2^44
  void* workspace = nullptr;          // as cuda_encode_room() says, aligned to 8 bytes
  uint8_t* payload = nullptr;         // as cuda_encode_room() says, any alignment
  uint64_t* payload_bytes = nullptr;  // one number: what was written to `payload`
};

// Queues three kernels on `stream` of the current device and returns; the host waits for nothing.
// Payload and its size are there when the stream has come so far, and until then no buffer may be
// changed or freed. Copy the size first, then as much of the payload.
// Errors: kInvalid as check_cuda_supports(); kInternal with CUDA's words when a launch fails (no
// device, an earlier error of this context).
Result<void> cuda_encode(const CodecSpec& spec, ElementType type, const CudaEncodeBuffers& buffers,
                         const EncodeContext& context, CUstream_st* stream);

}  // namespace longhaul
