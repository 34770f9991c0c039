// What does each codec win on a bucket of gradients, what does it lose, and how fast is it?
//
//   codecs [--runs N] [--codec TEXT] [--type fp32|bf16] [--simd LEVEL] [--cores N] [DUMP...]
//
// Each DUMP is a flat file of little-endian fp32 gradients (examples/char_gpt --dump-gradients DIR
// and bench_gradients write them) and a data set of its own; without one, "synthetic" gradients
// stand in: tensors of very different scale, heavy tails, some zero rows. Codecs work on buckets of
// 12 MiB of fp32 (less where a dump is smaller), `--codec` limits them to those whose text contains
// it, `--simd` to one level; all levels that the processor has are measured otherwise. `--cores N`
// gives N threads a codec and a share of each bucket.
//
// encode and decode_add are 10^9 bytes of elements per second: thread CPU time on one core, wall
// time on several. A run codes each bucket a few times, the first of them untimed. Medians of runs
// that alternate between codecs; spread is (max - min) / median. What is slow (scalar code, stock
// zstd) runs once.
// Peers: stock zstd at levels 1 and 3 and lz4 on the raw bytes, one call a bucket; their decode_add
// is decompression and then our fp32 sum.
#include <sys/mman.h>
#include <time.h>
#include <zstd.h>

#if defined(LONGHAUL_BENCH_LZ4)
#include <lz4.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/thread.h"
#include "codec/convert.h"
#include "codec/make_codec.h"
#include "longhaul/base/json.h"
#include "longhaul/base/strings.h"
#include "longhaul/codec/codec.h"

namespace longhaul {
namespace {

constexpr size_t kBucketElements = 3 * 1024 * 1024;
constexpr size_t kBucketsOfARun = 3;

// Buffers start at cache lines, as torch's do; large ones are of huge pages where the system has
// them.
constexpr size_t kHugePageBytes = 2 * 1024 * 1024;

constexpr std::align_val_t alignment_of(size_t bytes) {
  return std::align_val_t{bytes < kHugePageBytes ? 64 : kHugePageBytes};
}

template <typename T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <typename Other>
  LineAllocator(const LineAllocator<Other>&) {}
  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    void* const memory = ::operator new(bytes, alignment_of(bytes));
    if (bytes >= kHugePageBytes) madvise(memory, bytes, MADV_HUGEPAGE);
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t count) {
    ::operator delete(memory, alignment_of(count * sizeof(T)));
  }
  template <typename Other>
  bool operator==(const LineAllocator<Other>&) const {
    return true;
  }
};
using Bytes = std::vector<uint8_t, LineAllocator<uint8_t>>;
using Floats = std::vector<float, LineAllocator<float>>;

// A way to code one bucket.
class Method {
 public:
  virtual ~Method() = default;
  virtual size_t max_bytes(size_t count) const = 0;
  virtual size_t encode(ByteSpan elements, MutableByteSpan payload) = 0;
  virtual void decode_add(ByteSpan payload, std::span<float> sums) = 0;
};

class Ours final : public Method {
 public:
  Ours(const CodecSpec& spec, SimdLevel level, ElementType type)
      : type_(type), codec_(make_codec(spec, level)) {}
  size_t max_bytes(size_t count) const override { return codec_->max_payload_bytes(type_, count); }
  size_t encode(ByteSpan elements, MutableByteSpan payload) override {
    return codec_->encode(type_, elements, payload, {.step = 1});
  }
  void decode_add(ByteSpan payload, std::span<float> sums) override {
    codec_->decode_add(type_, payload, sums, 1).value_or_throw();
  }

 private:
  ElementType type_;
  std::unique_ptr<Codec> codec_;
};

// A general compressor on the raw bytes: decompress, then add.
class Peer : public Method {
 public:
  explicit Peer(ElementType type) : type_(type) {}
  void decode_add(ByteSpan payload, std::span<float> sums) override {
    elements_.resize(sums.size() * element_bytes(type_));
    decompress(payload, elements_);
    add_elements(type_, best_simd_level(), elements_.data(), sums.size(), 1, sums.data());
  }
  size_t max_bytes(size_t count) const override { return bound(count * element_bytes(type_)); }

 private:
  virtual size_t bound(size_t bytes) const = 0;
  virtual void decompress(ByteSpan payload, MutableByteSpan elements) = 0;
  ElementType type_;
  Bytes elements_;
};

size_t checked(size_t code) {
  if (ZSTD_isError(code)) throw Error(ErrorKind::kInternal, ZSTD_getErrorName(code));
  return code;
}

class StockZstd final : public Peer {
 public:
  StockZstd(ElementType type, int level)
      : Peer(type),
        level_(level),
        compressor_(ZSTD_createCCtx(), &ZSTD_freeCCtx),
        decompressor_(ZSTD_createDCtx(), &ZSTD_freeDCtx) {}
  size_t encode(ByteSpan elements, MutableByteSpan payload) override {
    return checked(ZSTD_compressCCtx(compressor_.get(), payload.data(), payload.size(),
                                     elements.data(), elements.size(), level_));
  }

 private:
  size_t bound(size_t bytes) const override { return ZSTD_compressBound(bytes); }
  void decompress(ByteSpan payload, MutableByteSpan elements) override {
    checked(ZSTD_decompressDCtx(decompressor_.get(), elements.data(), elements.size(),
                                payload.data(), payload.size()));
  }
  int level_;
  std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> compressor_;
  std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> decompressor_;
};

#if defined(LONGHAUL_BENCH_LZ4)
class StockLz4 final : public Peer {
 public:
  using Peer::Peer;
  size_t encode(ByteSpan elements, MutableByteSpan payload) override {
    return static_cast<size_t>(LZ4_compress_default(
        reinterpret_cast<const char*>(elements.data()), reinterpret_cast<char*>(payload.data()),
        static_cast<int>(elements.size()), static_cast<int>(payload.size())));
  }

 private:
  size_t bound(size_t bytes) const override {
    return static_cast<size_t>(LZ4_compressBound(static_cast<int>(bytes)));
  }
  void decompress(ByteSpan payload, MutableByteSpan elements) override {
    const int done = LZ4_decompress_safe(
        reinterpret_cast<const char*>(payload.data()), reinterpret_cast<char*>(elements.data()),
        static_cast<int>(payload.size()), static_cast<int>(elements.size()));
    if (done != static_cast<int>(elements.size())) throw Error(ErrorKind::kInternal, "lz4");
  }
};
#endif

double seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// One codec on one data set: a method per core, all of the same kind.
struct Contender {
  std::string name;
  std::string stage;
  std::string simd;
  std::vector<std::unique_ptr<Method>> methods;
  bool slow = false;
  size_t payload_bytes = 0;
  double relative_error = 0;
  std::vector<double> encode_gb_per_s;
  std::vector<double> decode_gb_per_s;
};

// What a core does: its part of the elements, its payload.
struct Share {
  ByteSpan elements;
  std::span<float> sums;
  Bytes payload;
  size_t written = 0;
};

// Seconds that work(i) takes for all i below `cores`, `rounds` times over.
double timed(size_t cores, size_t rounds, const std::function<void(size_t)>& work) {
  const auto repeat = [&](size_t i) {
    for (size_t round = 0; round < rounds; ++round) work(i);
  };
  if (cores == 1) {
    const double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    repeat(0);
    return seconds(CLOCK_THREAD_CPUTIME_ID) - start;
  }
  const double start = seconds(CLOCK_MONOTONIC);
  std::vector<Thread> threads;
  threads.reserve(cores);
  for (size_t i = 0; i < cores; ++i) threads.emplace_back("codec", [&repeat, i] { repeat(i); });
  threads.clear();
  return seconds(CLOCK_MONOTONIC) - start;
}

std::vector<Share> shares_of(const Contender& contender, ElementType type, ByteSpan elements,
                             std::span<float> sums) {
  const size_t cores = contender.methods.size();
  const size_t width = element_bytes(type);
  std::vector<Share> shares;
  for (size_t i = 0; i < cores; ++i) {
    const size_t first = sums.size() * i / cores / 4096 * 4096;
    const size_t end = i + 1 == cores ? sums.size() : sums.size() * (i + 1) / cores / 4096 * 4096;
    const size_t count = end - first;
    shares.push_back({elements.subspan(first * width, count * width), sums.subspan(first, count),
                      Bytes(contender.methods[i]->max_bytes(count))});
  }
  return shares;
}

double squared_error(ElementType type, ByteSpan elements, std::span<const float> decoded) {
  std::vector<float> exact(decoded.size());
  to_float32(type, best_simd_level(), elements.data(), exact.size(),
             reinterpret_cast<uint8_t*>(exact.data()));
  double off = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    off += std::pow(double{decoded[i]} - double{exact[i]}, 2);
  }
  return off;
}

double squared_norm(ElementType type, ByteSpan elements) {
  const std::vector<float> zeros(elements.size() / element_bytes(type));
  return squared_error(type, elements, zeros);
}

// Rounds until a run has seen three buckets, after one that warms up: contenders take turns, and
// each finds the caches full of another's memory. The first run finds the error too.
void run_once(Contender& contender, ElementType type, ByteSpan elements) {
  const size_t width = element_bytes(type);
  const size_t buckets = contender.slow ? 1 : kBucketsOfARun;
  const size_t rounds = std::max<size_t>(1, buckets * kBucketElements * width / elements.size());
  double encoding = 0;
  double decoding = 0;
  double off = 0;
  const bool first = contender.encode_gb_per_s.empty();
  contender.payload_bytes = 0;
  for (size_t at = 0; at < elements.size(); at += kBucketElements * width) {
    const ByteSpan bucket =
        elements.subspan(at, std::min(kBucketElements * width, elements.size() - at));
    Floats sums(bucket.size() / width);
    std::vector<Share> shares = shares_of(contender, type, bucket, sums);
    const auto encode = [&](size_t i) {
      shares[i].written = contender.methods[i]->encode(shares[i].elements, shares[i].payload);
    };
    for (size_t i = 0; i < shares.size(); ++i) encode(i);
    encoding += timed(shares.size(), rounds, encode);
    const auto decode = [&](size_t i) {
      contender.methods[i]->decode_add(ByteSpan(shares[i].payload).first(shares[i].written),
                                       shares[i].sums);
    };
    for (size_t i = 0; i < shares.size(); ++i) decode(i);  // into zeros
    if (first) off += squared_error(type, bucket, sums);
    for (const Share& share : shares) contender.payload_bytes += share.written;
    for (size_t i = 0; i < shares.size(); ++i) decode(i);
    decoding += timed(shares.size(), rounds, decode);
  }
  const auto bytes = static_cast<double>(elements.size() * rounds);
  contender.encode_gb_per_s.push_back(bytes / encoding / 1e9);
  contender.decode_gb_per_s.push_back(bytes / decoding / 1e9);
  if (first) contender.relative_error = std::sqrt(off / squared_norm(type, elements));
}

struct Row {
  std::string data;
  std::string codec;
  std::string stage;
  std::string simd;
  ElementType type;
  size_t cores;
};

void print_row(const Row& row, const char* metric, const char* unit, std::vector<double> values,
               std::optional<double> target = {}) {
  std::sort(values.begin(), values.end());
  const double median = values[values.size() / 2];
  JsonObject line;
  line.set("bench", "codecs");
  line.set("case", str_cat(row.data, ", ", to_string(row.type), ", ", row.codec, ", ", row.simd));
  line.set("data", row.data).set("type", to_string(row.type)).set("codec", row.codec);
  line.set("stage", row.stage).set("simd", row.simd).set("cores", row.cores);
  line.set("metric", metric).set("value", median).set("unit", unit).set("runs", values.size());
  if (values.size() > 1) line.set("spread", (values.back() - values.front()) / median);
  if (target) line.set("target", *target);
  std::puts(line.str().c_str());
}

// The project's targets, for one core with AVX-512; AVX2 owes 60 % of the lossy codecs' speed.
struct Targets {
  std::optional<double> ratio;
  std::optional<double> error;
  std::optional<double> encode;
  std::optional<double> decode_add;
};

Targets targets_of(const Row& row) {
  const bool fp32 = row.type == ElementType::kFloat32;
  const double share = row.simd == "avx2" ? 0.6 : 1;
  if (row.cores != 1 || row.simd == "scalar" || row.simd.empty()) return {};
  if (row.codec == "rms:step=0.5,block=256" && fp32) return {9.0, 0.15, 12 * share, 13 * share};
  if (row.codec == "int8:block=1024" && fp32) return {3.9, {}, 16 * share, 16 * share};
  if (row.codec == "lossless" && fp32) return {1.18, 0, 8 * share, {}};
  if (row.codec == "lossless") return {1.40, 0, 4 * share, {}};
  return {};
}

void report(const Row& row, const Contender& contender, size_t raw_bytes) {
  const Targets targets = targets_of(row);
  print_row(row, "ratio", "x",
            {static_cast<double>(raw_bytes) / static_cast<double>(contender.payload_bytes)},
            targets.ratio);
  print_row(row, "error", "of the norm", {contender.relative_error}, targets.error);
  print_row(row, "encode", "GB/s", contender.encode_gb_per_s, targets.encode);
  print_row(row, "decode_add", "GB/s", contender.decode_gb_per_s, targets.decode_add);
}

struct Options {
  int runs = 5;
  size_t cores = 1;
  std::string codec;
  std::string type;
  std::string simd;
  std::vector<std::string> dumps;
};

std::vector<CodecSpec> specs(ElementType type) {
  std::vector<CodecSpec> all;
  for (const char* text : {"none",
                           "lossless",
                           "zstd",
                           "bf16",
                           "bf16:stage=rice",
                           "bf16:stage=huffman",
                           "bf16:rounding=stochastic",
                           "fp16",
                           "fp16:stage=rice",
                           "int8",
                           "int8:stage=rice",
                           "int8:stage=huffman",
                           "int8:rounding=stochastic",
                           "rms:step=0.0625",
                           "rms:step=0.25",
                           "rms",
                           "rms:stage=packed",
                           "rms:stage=huffman",
                           "rms:rounding=stochastic",
                           "rms:step=1",
                           "rms:step=2"}) {
    const CodecSpec spec = CodecSpec::parse(text).value_or_throw();
    const bool cast = spec.kind == CodecSpec::Kind::kBf16 || spec.kind == CodecSpec::Kind::kFp16;
    if (type == ElementType::kFloat32 || !cast) all.push_back(spec);
  }
  return all;
}

std::string stage_of(const CodecSpec& spec) {
  using Kind = CodecSpec::Kind;
  if (spec.kind == Kind::kNone || spec.kind == Kind::kZstd || spec.kind == Kind::kLossless) {
    return "";
  }
  switch (spec.stage) {
    case CodecSpec::Stage::kPacked:
      return "packed";
    case CodecSpec::Stage::kRice:
      return "rice";
    case CodecSpec::Stage::kHuffman:
      return "huffman";
  }
  return "unknown";
}

std::vector<Contender> contenders_of(const Options& options, ElementType type) {
  std::vector<Contender> all;
  const auto add = [&](const std::string& name, const std::string& stage, const std::string& simd,
                       bool slow, const std::function<std::unique_ptr<Method>()>& make) {
    if (name.find(options.codec) == std::string::npos) return;
    if (!simd.empty() && !options.simd.empty() && simd != options.simd) return;
    Contender contender;
    contender.name = name;
    contender.stage = stage;
    contender.simd = simd;
    contender.slow = slow;
    for (size_t i = 0; i < options.cores; ++i) contender.methods.push_back(make());
    all.push_back(std::move(contender));
  };
  for (const CodecSpec& spec : specs(type)) {
    for (const SimdLevel level : {SimdLevel::kAvx512, SimdLevel::kAvx2, SimdLevel::kScalar}) {
      if (level > best_simd_level()) continue;
      add(spec.str(), stage_of(spec), std::string(to_string(level)), level == SimdLevel::kScalar,
          [&] { return std::make_unique<Ours>(spec, level, type); });
    }
  }
  for (const int level : {1, 3}) {
    add(str_cat("stock zstd -", level), "", "", true,
        [&] { return std::make_unique<StockZstd>(type, level); });
  }
#if defined(LONGHAUL_BENCH_LZ4)
  add("stock lz4", "", "", true, [&] { return std::make_unique<StockLz4>(type); });
#endif
  return all;
}

void run_case(const Options& options, const std::string& data, ElementType type,
              ByteSpan elements) {
  if (!options.type.empty() && options.type != to_string(type)) return;
  std::vector<Contender> contenders = contenders_of(options, type);
  for (int run = 0; run < options.runs; ++run) {
    for (Contender& contender : contenders) {
      if (run == 0 || !contender.slow) run_once(contender, type, elements);
    }
  }
  for (const Contender& contender : contenders) {
    report({data, contender.name, contender.stage, contender.simd, type, options.cores}, contender,
           elements.size());
  }
}

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(ErrorKind::kInvalid, str_cat("cannot read ", path));
  Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (bytes.empty() || bytes.size() % sizeof(float) != 0) {
    throw Error(ErrorKind::kInvalid, str_cat(path, ": ", bytes.size(), " bytes are no fp32 dump"));
  }
  return bytes;
}

// Tensors of 1 K to 1 M elements, scales over six decades, rows of 256 that differ by a factor of a
// few, a tail heavier than Gauss's, one row in 16 zero in every fourth tensor.
Bytes synthetic() {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  Bytes bytes(kBucketElements * sizeof(float));
  size_t end = 0;
  float tensor_scale = 1;
  float row_scale = 1;
  bool sparse = false;
  for (size_t i = 0; i < kBucketElements; ++i) {
    if (i == end) {
      end += size_t{1024} << random() % 11;
      tensor_scale = std::pow(10.0F, -1 - static_cast<float>(random() % 6000) / 1000);
      sparse = random() % 4 == 0;
    }
    if (i % 256 == 0) {
      row_scale = sparse && random() % 16 == 0 ? 0 : std::exp2(normal(random));
    }
    const float tail = 1 / std::sqrt(0.2F + 0.8F * std::abs(normal(random)));
    store(bytes.data() + i * sizeof(float), normal(random) * tail * row_scale * tensor_scale);
  }
  return bytes;
}

void run_data(const Options& options, const std::string& name, const Bytes& fp32) {
  run_case(options, name, ElementType::kFloat32, fp32);
  Bytes bf16(fp32.size() / 2);
  from_float32(ElementType::kBFloat16, best_simd_level(), fp32.data(), fp32.size() / 4,
               bf16.data());
  run_case(options, name, ElementType::kBFloat16, bf16);
}

std::optional<Options> read_options(const std::vector<std::string>& arguments) {
  Options options;
  const std::map<std::string, std::function<void(const std::string&)>> known = {
      {"--runs", [&](const std::string& value) { options.runs = std::atoi(value.c_str()); }},
      {"--cores",
       [&](const std::string& value) {
         options.cores = static_cast<size_t>(std::atoi(value.c_str()));
       }},
      {"--codec", [&](const std::string& value) { options.codec = value; }},
      {"--type", [&](const std::string& value) { options.type = value; }},
      {"--simd", [&](const std::string& value) { options.simd = value; }}};
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto option = known.find(arguments[i]);
    if (option == known.end()) {
      if (arguments[i].starts_with("-")) return std::nullopt;
      options.dumps.push_back(arguments[i]);
    } else if (i + 1 < arguments.size()) {
      option->second(arguments[++i]);
    } else {
      return std::nullopt;
    }
  }
  if (options.runs < 1 || options.cores < 1 || options.cores > 256) return std::nullopt;
  return options;
}

int run(const std::vector<std::string>& arguments) {
  const std::optional<Options> options = read_options(arguments);
  if (!options) {
    std::fputs(
        "usage: codecs [--runs N] [--codec TEXT] [--type fp32|bf16] [--simd LEVEL] [--cores N]\n"
        "              [DUMP...]   (flat fp32 files)\n",
        stderr);
    return 64;
  }
  if (options->dumps.empty()) run_data(*options, "synthetic", synthetic());
  for (const std::string& path : options->dumps) {
    const size_t slash = path.find_last_of('/');
    const std::string file = slash == std::string::npos ? path : path.substr(slash + 1);
    run_data(*options, file.substr(0, file.find_last_of('.')), read_file(path));
  }
  return 0;
}

}  // namespace
}  // namespace longhaul

int main(int argc, char** argv) {
  try {
    return longhaul::run({argv + 1, argv + argc});
  } catch (const longhaul::Error& error) {
    std::fprintf(stderr, "codecs: %s\n", error.what());
    return 1;
  }
}
