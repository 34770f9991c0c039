// The encoder on a CUDA device: every payload is the scalar reference's to the byte. Skipped where
// there is no device; cuda_twin_test.cc runs the same code on the CPU.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "codec/cuda/cuda_encoder.h"
#include "codec/make_codec.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using namespace testing;  // longhaul::testing

// Memory of the device, of exactly so many bytes, so that compute-sanitizer sees a store behind
// them.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : bytes_(bytes) {
    EXPECT_EQ(cudaMalloc(&memory_, bytes + (bytes == 0 ? 1 : 0)), cudaSuccess);
  }
  ~DeviceMemory() { cudaFree(memory_); }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  void* get() const { return memory_; }
  void write(const void* from) {
    EXPECT_EQ(cudaMemcpy(memory_, from, bytes_, cudaMemcpyHostToDevice), cudaSuccess);
  }
  void read(void* to, size_t bytes) const {
    EXPECT_EQ(cudaMemcpy(to, memory_, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
  }

 private:
  const size_t bytes_;
  void* memory_ = nullptr;
};

class CudaEncoderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no CUDA device";
    }
    ASSERT_EQ(cudaStreamCreate(&stream_), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ != nullptr) EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
  }

  std::vector<uint8_t> encode(const CodecSpec& spec, ElementType type,
                              const std::vector<uint8_t>& elements, const EncodeContext& context) {
    const size_t count = elements.size() / element_bytes(type);
    const CudaEncodeRoom room = cuda_encode_room(spec, type, count);
    DeviceMemory from(elements.size());
    DeviceMemory workspace(room.workspace_bytes);
    DeviceMemory payload(room.payload_bytes);
    DeviceMemory written(sizeof(uint64_t));
    from.write(elements.data());
    const CudaEncodeBuffers buffers{from.get(), count, workspace.get(),
                                    static_cast<uint8_t*>(payload.get()),
                                    static_cast<uint64_t*>(written.get())};
    const Result<void> queued = cuda_encode(spec, type, buffers, context, stream_);
    EXPECT_TRUE(queued) << queued.failure().message;
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    uint64_t bytes = 0;
    written.read(&bytes, sizeof(bytes));
    EXPECT_LE(bytes, room.payload_bytes);
    std::vector<uint8_t> encoded(std::min<size_t>(bytes, room.payload_bytes));
    payload.read(encoded.data(), encoded.size());
    return encoded;
  }

  void expect_same_bytes(const CodecSpec& spec, ElementType type,
                         const std::vector<uint8_t>& elements, const EncodeContext& context = {}) {
    const std::vector<uint8_t> expected =
        encode_all(*make_codec(spec, SimdLevel::kScalar), type, elements, context);
    ASSERT_TRUE(encode(spec, type, elements, context) == expected)
        << spec.str() << ", " << elements.size() / element_bytes(type) << " x " << to_string(type);
  }

  cudaStream_t stream_ = nullptr;
};

TEST_F(CudaEncoderTest, EverySpecTypeAndKindOfDataGivesTheReferencesBytes) {
  for (const CodecSpec& spec : all_specs()) {
    if (!check_cuda_supports(spec)) continue;
    for (const ElementType type : kAllElementTypes) {
      for (const DataKind kind : kAllDataKinds) {
        for (const size_t count : {0, 1, 63, 64, 257, 16'384, 16'385, 100'003}) {
          SCOPED_TRACE(to_string(kind));
          expect_same_bytes(spec, type, make_elements(kind, type, count, count),
                            {.step = 9, .bucket = 2, .rank = 1, .first_element = count});
        }
      }
    }
  }
}

TEST_F(CudaEncoderTest, RandomBitsOfRandomLengthsGiveTheReferencesBytes) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 500; ++round) {
    CodecSpec spec = CodecSpec::of(round % 2 == 0 ? CodecSpec::Kind::kInt8 : CodecSpec::Kind::kRms);
    if (random() % 2 == 0) spec.stage = CodecSpec::Stage::kRice;
    if (random() % 2 == 0) spec.rounding = CodecSpec::Rounding::kStochastic;
    spec.block = 64U << random() % 7;
    const ElementType type = kAllElementTypes[random() % 4];
    const DataKind kind = kAllDataKinds[random() % std::size(kAllDataKinds)];
    SCOPED_TRACE(to_string(kind));
    expect_same_bytes(spec, type, make_elements(kind, type, random() % 60'000, random()),
                      {.step = random()});
  }
}

TEST_F(CudaEncoderTest, ABucketOfManyTilesGivesTheReferencesBytes) {
  const ElementType type = ElementType::kFloat32;
  expect_same_bytes(*CodecSpec::parse("rms"), type,
                    make_elements(DataKind::kGradient, type, 6'553'601));
}

// Needs no device.
TEST(CudaSupportTest, OnlyQuantizersWithPackedOrRiceAreTaken) {
  for (const char* text : {"int8", "int8:stage=rice", "rms", "rms:stage=packed,step=8,block=64",
                           "rms:rounding=stochastic"}) {
    EXPECT_TRUE(check_cuda_supports(*CodecSpec::parse(text))) << text;
  }
  for (const char* text : {"none", "zstd", "lossless", "bf16", "fp16", "rms:stage=huffman"}) {
    const CodecSpec spec = *CodecSpec::parse(text);
    const Result<void> refused = check_cuda_supports(spec);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.failure().kind, ErrorKind::kInvalid);
    EXPECT_NE(refused.failure().message.find(spec.str()), std::string::npos);
  }
}

TEST(CudaSupportTest, ThePayloadsRoomIsTheCodecs) {
  for (const char* text : {"int8", "rms:block=64"}) {
    const CodecSpec spec = *CodecSpec::parse(text);
    for (const ElementType type : kAllElementTypes) {
      for (const size_t count : {0, 1, 16'384, 16'385, 1'000'000}) {
        EXPECT_EQ(cuda_encode_room(spec, type, count).payload_bytes,
                  make_codec(spec)->max_payload_bytes(type, count));
      }
    }
  }
}

}  // namespace
}  // namespace longhaul
