// How fast a CUDA device encodes gradients, and whether its payloads are the CPU's to the byte. One
// JSON line a figure.
//
// usage: bench_cuda_encoder [MIB...]    (sizes of the fp32 bucket; default 4 25 256)
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "codec/cuda/cuda_encoder.h"
#include "codec/make_codec.h"

namespace longhaul::bench {
namespace {

constexpr const char* kCodecs[] = {"int8",
                                   "int8:stage=rice",
                                   "int8:rounding=stochastic",
                                   "rms:step=0.5",
                                   "rms:step=0.5,stage=packed",
                                   "rms:step=1",
                                   "rms:step=0.5,rounding=stochastic"};
constexpr int kRuns = 20;
constexpr EncodeContext kContext = {.step = 5, .bucket = 1, .rank = 0, .first_element = 0};

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "bench_cuda_encoder: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ? 77 : 1);
}

struct Free {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, Free>;

DeviceMemory allocate(size_t bytes) {
  void* memory = nullptr;
  must(cudaMalloc(&memory, bytes), "cudaMalloc");
  return DeviceMemory(memory);
}

std::vector<float> gradients(size_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1e-3F);
  std::vector<float> made(count);
  for (float& one : made) one = normal(random);
  return made;
}

// Milliseconds of each run.
std::vector<float> time_runs(const CodecSpec& spec, const CudaEncodeBuffers& buffers) {
  cudaEvent_t before = nullptr;
  cudaEvent_t after = nullptr;
  must(cudaEventCreate(&before), "cudaEventCreate");
  must(cudaEventCreate(&after), "cudaEventCreate");
  std::vector<float> times;
  for (int run = -3; run < kRuns; ++run) {
    must(cudaEventRecord(before, nullptr), "cudaEventRecord");
    cuda_encode(spec, ElementType::kFloat32, buffers, kContext, nullptr).value_or_throw();
    must(cudaEventRecord(after, nullptr), "cudaEventRecord");
    must(cudaEventSynchronize(after), "encoding");
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, before, after), "cudaEventElapsedTime");
    if (run >= 0) times.push_back(milliseconds);
  }
  cudaEventDestroy(before);
  cudaEventDestroy(after);
  std::sort(times.begin(), times.end());
  return times;
}

void print(const std::string& name, const char* metric, double value, const char* unit,
           double spread) {
  std::printf(
      R"({"bench": "cuda_encoder", "case": "%s", "metric": "%s", "value": %.4g, "unit": "%s", )"
      R"("runs": %d, "spread": %.3f})"
      "\n",
      name.c_str(), metric, value, unit, kRuns, spread);
}

// Whether the payload was the CPU's.
bool measure(const CodecSpec& spec, size_t mebibytes) {
  const size_t count = mebibytes << 18U;
  const size_t bytes = count * sizeof(float);
  const std::vector<float> elements = gradients(count);
  const CudaEncodeRoom room = cuda_encode_room(spec, ElementType::kFloat32, count);
  const DeviceMemory from = allocate(bytes);
  const DeviceMemory workspace = allocate(room.workspace_bytes);
  const DeviceMemory payload = allocate(room.payload_bytes);
  const DeviceMemory written = allocate(sizeof(uint64_t));
  must(cudaMemcpy(from.get(), elements.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  const std::vector<float> times =
      time_runs(spec, {from.get(), count, workspace.get(), static_cast<uint8_t*>(payload.get()),
                       static_cast<uint64_t*>(written.get())});
  uint64_t size = 0;
  must(cudaMemcpy(&size, written.get(), sizeof(size), cudaMemcpyDeviceToHost), "cudaMemcpy");
  std::vector<uint8_t> got(std::min<size_t>(size, room.payload_bytes));
  must(cudaMemcpy(got.data(), payload.get(), got.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");

  const std::unique_ptr<Codec> codec = make_codec(spec);
  std::vector<uint8_t> expected(codec->max_payload_bytes(ElementType::kFloat32, count));
  const ByteSpan host{reinterpret_cast<const uint8_t*>(elements.data()), bytes};
  expected.resize(codec->encode(ElementType::kFloat32, host, expected, kContext));

  const std::string name = spec.str() + ", " + std::to_string(mebibytes) + " MiB";
  const double median = times[times.size() / 2];
  const double spread = (times.back() - times.front()) / median;
  print(name, "encode", static_cast<double>(bytes) / median / 1e6, "GB/s", spread);
  print(name, "ratio", static_cast<double>(bytes) / static_cast<double>(size), "x", 0);
  print(name, "equal to the CPU's payload to the byte", got == expected ? 1 : 0, "", 0);
  return got == expected;
}

}  // namespace
}  // namespace longhaul::bench

int main(int argc, char** argv) {
  std::vector<size_t> sizes;
  for (int i = 1; i < argc; ++i) sizes.push_back(std::strtoul(argv[i], nullptr, 10));
  if (sizes.empty()) sizes = {4, 25, 256};
  int devices = 0;
  longhaul::bench::must(cudaGetDeviceCount(&devices), "looking for a device");
  bool equal = true;
  for (const char* codec : longhaul::bench::kCodecs) {
    const longhaul::CodecSpec spec = longhaul::CodecSpec::parse(codec).value_or_throw();
    for (const size_t size : sizes) {
      if (size > 0) equal = longhaul::bench::measure(spec, size) && equal;
    }
  }
  return equal ? 0 : 1;
}
