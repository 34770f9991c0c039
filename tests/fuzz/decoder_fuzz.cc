// libFuzzer target for the codecs: whatever a payload holds, a decoder gives elements or kCorrupt,
// stays inside its spans (ASan sees every access), and gives the same on every instruction set.
//
//   LONGHAUL_FUZZ_DECODER=rms codec_fuzz [libFuzzer's options] CORPUS
//   LONGHAUL_FUZZ_DECODER=rms LONGHAUL_FUZZ_SEEDS=DIR codec_fuzz    writes seeds and ends
//
// An input is 4 bytes, then data: which options, which element type, how many elements (2 bytes, up
// to 4095; the top bits choose what the data are): a payload, one tile behind a good head, or
// elements that go through the encoder and back.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "codec/make_codec.h"
#include "codec/payload.h"
#include "longhaul/codec/codec.h"

namespace longhaul {
namespace {

using Bytes = std::vector<uint8_t>;

enum Mode { kPayload = 0, kTile = 1, kElements = 2 };
constexpr size_t kHeadBytes = 4;
constexpr int kModeShift = 12;

#define FUZZ_CHECK(condition)                                       \
  do {                                                              \
    if (!(condition)) {                                             \
      std::fprintf(stderr, "fuzz: %s does not hold\n", #condition); \
      std::abort();                                                 \
    }                                                               \
  } while (false)

// Two codecs of a spec that must agree.
struct Pair {
  std::unique_ptr<Codec> best;
  std::unique_ptr<Codec> scalar;
};

std::vector<CodecSpec> specs_of(const std::string& decoder) {
  std::vector<CodecSpec> specs;
  for (const char* options : {"", ":stage=rice", ":stage=huffman", ":stage=packed", ":block=64",
                              ":block=4096,stage=rice", ":rounding=stochastic"}) {
    const Result<CodecSpec> spec = CodecSpec::parse(decoder + options);
    if (spec) specs.push_back(*spec);
  }
  return specs;
}

std::vector<Pair> make_pairs(const std::string& decoder) {
  std::vector<Pair> pairs;
  for (const CodecSpec& spec : specs_of(decoder)) {
    pairs.push_back({make_codec(spec, best_simd_level()), make_codec(spec, SimdLevel::kScalar)});
  }
  FUZZ_CHECK(!pairs.empty());
  return pairs;
}

std::string decoder() {
  const char* name = std::getenv("LONGHAUL_FUZZ_DECODER");
  return name == nullptr ? "rms" : name;
}

const std::vector<Pair>& pairs() {
  static const std::vector<Pair> all = make_pairs(decoder());
  return all;
}

uint32_t tile_elements(const CodecSpec& spec) {
  return spec.block > 0 ? 16 * 1024 : 64 * 1024;
}

// A good head for one tile of `stored_bytes`.
Bytes with_head(const CodecSpec& spec, ElementType type, size_t count, ByteSpan stored) {
  const PayloadShape shape{spec.kind, type, count, tile_elements(spec), spec.block};
  Bytes payload(shape.head_bytes());
  write_payload_header(shape, payload.data());
  if (count > 0) write_directory_entry(0, stored.size(), payload.data());
  payload.insert(payload.end(), stored.begin(), stored.end());
  return payload;
}

// Memory of exactly the right size, so that one byte too far is seen.
void decode_both(const Pair& pair, ElementType type, ByteSpan payload, size_t count) {
  const Bytes exact(payload.begin(), payload.end());
  Bytes best(count * element_bytes(type));
  Bytes scalar(best.size());
  const Result<void> done = pair.best->decode(type, exact, best);
  FUZZ_CHECK(pair.scalar->decode(type, exact, scalar).ok() == done.ok());
  FUZZ_CHECK(done.ok() || done.failure().kind == ErrorKind::kCorrupt);
  FUZZ_CHECK(!done.ok() || best == scalar);
  std::vector<float> sums(count, 1);
  FUZZ_CHECK(pair.best->decode_add(type, exact, sums, 0.5F).ok() == done.ok());
}

void there_and_back(const Pair& pair, ElementType type, ByteSpan elements) {
  const size_t count = elements.size() / element_bytes(type);
  elements = elements.first(count * element_bytes(type));
  const EncodeContext context{.step = 3, .bucket = 2, .rank = 1, .first_element = count};
  Bytes best(pair.best->max_payload_bytes(type, count));
  Bytes scalar(best.size());
  best.resize(pair.best->encode(type, elements, best, context));
  scalar.resize(pair.scalar->encode(type, elements, scalar, context));
  FUZZ_CHECK(best == scalar);
  Bytes decoded(elements.size());
  FUZZ_CHECK(pair.best->decode(type, best, decoded).ok());
  FUZZ_CHECK(!pair.best->spec().lossless() ||
             std::equal(decoded.begin(), decoded.end(), elements.begin()));
  decode_both(pair, type, best, count);
}

void run_one(ByteSpan input) {
  if (input.size() < kHeadBytes) return;
  const Pair& pair = pairs()[input[0] % pairs().size()];
  const auto type = static_cast<ElementType>(input[1] % 4);
  const auto word = load<uint16_t>(input.data() + 2);
  const size_t count = word & 0xFFF;
  const ByteSpan data = input.subspan(kHeadBytes);
  const CodecSpec& spec = pair.best->spec();
  if (!check_supports(spec, type)) return;
  switch (word >> kModeShift & 3) {
    case kElements:
      return there_and_back(pair, type, data);
    case kTile:
      return decode_both(pair, type, with_head(spec, type, count, data), count);
    default:
      return decode_both(pair, type, data, count);
  }
}

// Good tiles and payloads of every option and type, of plausible elements.
void write_seeds(const std::string& folder) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (size_t option = 0; option < pairs().size(); ++option) {
    Codec& codec = *pairs()[option].best;
    for (uint8_t t = 0; t < 4; ++t) {
      const auto type = static_cast<ElementType>(t);
      if (!check_supports(codec.spec(), type)) continue;
      const size_t count = 300 + 20 * option;
      Bytes elements(count * element_bytes(type));
      for (size_t i = 0; i + 4 <= elements.size(); i += 4) {
        store(elements.data() + i, i / 4 % 90 < 20 ? 0.0F : normal(random));
      }
      Bytes payload(codec.max_payload_bytes(type, count));
      payload.resize(codec.encode(type, elements, payload, {}));
      const bool tile = t % 2 == 0;
      const size_t head = kPayloadHeaderBytes + kDirectoryEntryBytes;
      Bytes input = {static_cast<uint8_t>(option), t, 0, 0};
      store(input.data() + 2,
            static_cast<uint16_t>(count | (tile ? kTile : kPayload) << kModeShift));
      input.insert(input.end(), payload.begin() + (tile ? static_cast<ptrdiff_t>(head) : 0),
                   payload.end());
      std::ofstream file(
          folder + "/" + decoder() + "-" + std::to_string(option) + "-" + std::to_string(t),
          std::ios::binary);
      file.write(reinterpret_cast<const char*>(input.data()),
                 static_cast<std::streamsize>(input.size()));
    }
  }
}

}  // namespace
}  // namespace longhaul

extern "C" int LLVMFuzzerInitialize(int* /*count*/, char*** /*arguments*/) {
  if (const char* folder = std::getenv("LONGHAUL_FUZZ_SEEDS")) {
    longhaul::write_seeds(folder);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  longhaul::run_one({data, size});
  return 0;
}
