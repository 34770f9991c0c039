// What does our lossless codec win on real gradients, and how fast is it on one core?
//
//   lossless [--runs N] DUMP...
//
// Each DUMP is a flat file of little-endian fp32 gradients (examples/char_gpt --dump-gradients DIR
// writes them). All dumps together are one case per element type: fp32 as they are, bf16 rounded
// from them. Compared with stock zstd at levels 1 and 3, on the raw bytes and on byte-shuffled data
// (one shuffle over each piece; its time counts). Everybody works on pieces of 4 MiB of fp32, the
// size of a bucket. GB/s are 10^9 bytes of elements per second. Medians of runs that alternate
// between methods; spread is (max - min) / median.
#include <time.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codec/planes.h"
#include "longhaul/base/json.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"

namespace longhaul {
namespace {

constexpr size_t kPieceElements = 1024 * 1024;

using Bytes = std::vector<uint8_t>;

// A way to code one piece. encode() returns the payload's bytes; decode() gives the piece back.
class Method {
 public:
  virtual ~Method() = default;
  virtual size_t max_bytes(ByteSpan piece) const = 0;
  virtual size_t encode(ByteSpan piece, MutableByteSpan payload) = 0;
  virtual void decode(ByteSpan payload, MutableByteSpan piece) = 0;
};

class OurZstd final : public Method {
 public:
  explicit OurZstd(ElementType type)
      : type_(type), codec_(make_codec(CodecSpec{CodecSpec::Kind::kZstd})) {}
  size_t max_bytes(ByteSpan piece) const override {
    return codec_->max_payload_bytes(type_, piece.size() / element_bytes(type_));
  }
  size_t encode(ByteSpan piece, MutableByteSpan payload) override {
    return codec_->encode(type_, piece, payload, {});
  }
  void decode(ByteSpan payload, MutableByteSpan piece) override {
    codec_->decode(type_, payload, piece).value_or_throw();
  }

 private:
  ElementType type_;
  std::unique_ptr<Codec> codec_;
};

size_t checked(size_t code) {
  if (ZSTD_isError(code)) throw Error(ErrorKind::kInternal, ZSTD_getErrorName(code));
  return code;
}

class StockZstd : public Method {
 public:
  explicit StockZstd(int level)
      : level_(level),
        compressor_(ZSTD_createCCtx(), &ZSTD_freeCCtx),
        decompressor_(ZSTD_createDCtx(), &ZSTD_freeDCtx) {}
  size_t max_bytes(ByteSpan piece) const override { return ZSTD_compressBound(piece.size()); }
  size_t encode(ByteSpan piece, MutableByteSpan payload) override {
    return checked(ZSTD_compressCCtx(compressor_.get(), payload.data(), payload.size(),
                                     piece.data(), piece.size(), level_));
  }
  void decode(ByteSpan payload, MutableByteSpan piece) override {
    checked(ZSTD_decompressDCtx(decompressor_.get(), piece.data(), piece.size(), payload.data(),
                                payload.size()));
  }

 private:
  int level_;
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> compressor_;
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> decompressor_;
};

// Byte-shuffled, then stock zstd over all of it: what Blosc, HDF5 and Parquet users do. The shuffle
// is our fastest one, so that the comparison is about coding.
class ShuffledZstd final : public StockZstd {
 public:
  ShuffledZstd(ElementType type, int level) : StockZstd(level), type_(type) {}
  size_t encode(ByteSpan piece, MutableByteSpan payload) override {
    shuffled_.resize(piece.size());
    const size_t count = piece.size() / element_bytes(type_);
    PlanePointers planes{};
    for (size_t p = 0; p < element_bytes(type_); ++p) planes[p] = shuffled_.data() + p * count;
    split_planes(type_, best_simd_level(), piece.data(), count, planes);
    return StockZstd::encode(shuffled_, payload);
  }
  void decode(ByteSpan payload, MutableByteSpan piece) override {
    shuffled_.resize(piece.size());
    StockZstd::decode(payload, shuffled_);
    const size_t count = piece.size() / element_bytes(type_);
    ConstPlanePointers planes{};
    for (size_t p = 0; p < element_bytes(type_); ++p) planes[p] = shuffled_.data() + p * count;
    merge_planes(type_, best_simd_level(), planes, count, piece.data());
  }

 private:
  ElementType type_;
  Bytes shuffled_;
};

struct Contender {
  std::string name;
  std::unique_ptr<Method> method;
  size_t payload_bytes = 0;
  std::vector<double> encode_gb_per_s;
  std::vector<double> decode_gb_per_s;

  void forget_times() {
    encode_gb_per_s.clear();
    decode_gb_per_s.clear();
  }
};

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// One pass over all elements, timed piece by piece; what comes back is compared, outside the clock.
void run_once(Contender& contender, ByteSpan elements, size_t piece_bytes) {
  double encoding = 0;
  double decoding = 0;
  contender.payload_bytes = 0;
  Bytes payload;
  Bytes decoded;
  for (size_t at = 0; at < elements.size(); at += piece_bytes) {
    const ByteSpan piece = elements.subspan(at, std::min(piece_bytes, elements.size() - at));
    payload.resize(contender.method->max_bytes(piece));
    decoded.resize(piece.size());
    const double start = cpu_seconds();
    const size_t written = contender.method->encode(piece, payload);
    const double middle = cpu_seconds();
    contender.method->decode(ByteSpan(payload).first(written), decoded);
    encoding += middle - start;
    decoding += cpu_seconds() - middle;
    contender.payload_bytes += written;
    if (!std::equal(piece.begin(), piece.end(), decoded.begin())) {
      throw Error(ErrorKind::kInternal, str_cat(contender.name, " did not give the elements back"));
    }
  }
  contender.encode_gb_per_s.push_back(static_cast<double>(elements.size()) / encoding / 1e9);
  contender.decode_gb_per_s.push_back(static_cast<double>(elements.size()) / decoding / 1e9);
}

struct Row {
  std::string name;  // the case: "fp32, longhaul zstd"
  std::string metric;
  std::string unit;
  std::optional<double> target;
};

void print_row(const Row& row, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const double median = values[values.size() / 2];
  JsonObject line;
  line.set("bench", "lossless").set("case", row.name).set("metric", row.metric);
  line.set("value", median).set("unit", row.unit).set("runs", values.size());
  line.set("spread", (values.back() - values.front()) / median);
  if (row.target) line.set("target", *row.target);
  std::puts(line.str().c_str());
}

// The targets of the project; only our own fp32 speed has one.
void report(ElementType type, const Contender& contender, size_t raw_bytes) {
  const bool ours = contender.name == "longhaul zstd";
  const bool fp32 = type == ElementType::kFloat32;
  const auto target = [](bool wanted, double value) {
    return wanted ? std::optional<double>(value) : std::nullopt;
  };
  const std::string name = str_cat(to_string(type), ", ", contender.name);
  const double ratio =
      static_cast<double>(raw_bytes) / static_cast<double>(contender.payload_bytes);
  print_row({name, "ratio", "x", target(ours, fp32 ? 1.18 : 1.45)}, {ratio});
  print_row({name, "encode", "GB/s", target(ours && fp32, 2.5)}, contender.encode_gb_per_s);
  print_row({name, "decode", "GB/s", target(ours && fp32, 4.0)}, contender.decode_gb_per_s);
}

void run_type(ElementType type, ByteSpan elements, int runs) {
  std::vector<Contender> contenders;
  const auto add = [&](std::string name, std::unique_ptr<Method> method) {
    contenders.push_back({std::move(name), std::move(method), 0, {}, {}});
  };
  add("longhaul zstd", std::make_unique<OurZstd>(type));
  for (const int level : {1, 3}) {
    add(str_cat("zstd -", level), std::make_unique<StockZstd>(level));
    add(str_cat("shuffle + zstd -", level), std::make_unique<ShuffledZstd>(type, level));
  }
  for (int run = 0; run <= runs; ++run) {
    for (Contender& contender : contenders) {
      run_once(contender, elements, kPieceElements * element_bytes(type));
      if (run == 0) contender.forget_times();
    }
  }
  for (const Contender& contender : contenders) report(type, contender, elements.size());
}

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorKind::kInvalid, str_cat("cannot read ", path));
  Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (bytes.size() % sizeof(float) != 0) {
    throw Error(ErrorKind::kInvalid, str_cat(path, ": ", bytes.size(), " bytes are no fp32 dump"));
  }
  return bytes;
}

// Rounds to nearest, ties to even, as libtorch does; NaN stays NaN.
uint16_t to_bf16(uint32_t bits) {
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

Bytes cast_to_bf16(ByteSpan fp32) {
  Bytes bf16(fp32.size() / 2);
  for (size_t i = 0; i < fp32.size() / 4; ++i) {
    store(bf16.data() + 2 * i, to_bf16(load<uint32_t>(fp32.data() + 4 * i)));
  }
  return bf16;
}

int run(const std::vector<std::string>& arguments) {
  int runs = 5;
  Bytes fp32;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--runs" && i + 1 < arguments.size()) {
      runs = std::atoi(arguments[++i].c_str());
      continue;
    }
    const Bytes dump = read_file(arguments[i]);
    fp32.insert(fp32.end(), dump.begin(), dump.end());
  }
  if (fp32.empty() || runs < 1) {
    std::fputs("usage: lossless [--runs N] DUMP...   (flat fp32 files, not empty)\n", stderr);
    return 64;
  }
  run_type(ElementType::kFloat32, fp32, runs);
  run_type(ElementType::kBFloat16, cast_to_bf16(fp32), runs);
  return 0;
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  try {
    return longhaul::run({argv + 1, argv + argc});
  } catch (const longhaul::Error& error) {
    std::fprintf(stderr, "lossless: %s\n", error.what());
    return 1;
  }
}
