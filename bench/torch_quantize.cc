// What bench_codecs asks of our codecs, asked of PyTorch's own quantization ops and casts, on one
// thread; the same JSON rows.
//
//   torch_quantize [--runs N] DUMP...
//
// Each DUMP is a flat file of little-endian fp32, taken in buckets of 12 MiB. Encoding includes
// what finds the scale, as a codec must; decode_add is the op that gives fp32 back, and an
// addition. These ops stop at whole bytes: nothing codes the entropy.
#include <ATen/Version.h>
#include <time.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "longhaul/base/json.h"
#include "longhaul/base/strings.h"

namespace longhaul::bench {
namespace {

constexpr int64_t kBucketElements = 3 * 1024 * 1024;
constexpr int64_t kChannel = 1024;  // elements a scale, as "int8" has

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Encoding gives a tensor, of which elements and scales would travel.
struct Op {
  std::string name;
  std::function<torch::Tensor(const torch::Tensor&)> encode;
  std::function<void(const torch::Tensor& coded, torch::Tensor& sums)> decode_add;
  std::function<int64_t(int64_t count)> payload_bytes;
};

torch::Tensor per_tensor(const torch::Tensor& x) {
  const double scale = std::max(x.abs().max().item<double>() / 127, 1e-30);
  return at::quantize_per_tensor(x, scale, 0, torch::kQInt8);
}

// Rows of kChannel; what is left over fills the last row up with zeros.
torch::Tensor per_channel(const torch::Tensor& x) {
  const int64_t missing = (kChannel - x.numel() % kChannel) % kChannel;
  const torch::Tensor whole = missing == 0 ? x : torch::constant_pad_nd(x, {0, missing});
  const torch::Tensor rows = whole.view({-1, kChannel});
  const torch::Tensor scales = (rows.abs().amax(1) / 127).clamp_min(1e-30);
  const torch::Tensor zeros = torch::zeros({rows.size(0)}, torch::kInt64);
  return at::quantize_per_channel(rows, scales, zeros, 0, torch::kQInt8);
}

void dequantize_add(const torch::Tensor& coded, torch::Tensor& sums) {
  sums.add_(at::dequantize(coded).flatten().narrow(0, 0, sums.numel()));
}

std::vector<Op> ops() {
  const auto cast = [](const std::string& name, torch::ScalarType type) {
    return Op{name, [type](const torch::Tensor& x) { return x.to(type); },
              [](const torch::Tensor& coded, torch::Tensor& sums) { sums.add_(coded); },
              [](int64_t count) { return 2 * count; }};
  };
  return {{"torch quantize_per_tensor qint8", per_tensor, dequantize_add,
           [](int64_t count) { return count + 4; }},
          {"torch quantize_per_channel qint8, 1024", per_channel, dequantize_add,
           [](int64_t count) { return count + 4 * ((count + kChannel - 1) / kChannel); }},
          cast("torch to(bfloat16)", torch::kBFloat16),
          cast("torch to(float16)", torch::kFloat16)};
}

struct Measured {
  double ratio = 0;
  double error = 0;
  std::vector<double> encode;
  std::vector<double> decode_add;
};

// Small data sets go round until a run has seen a whole bucket.
void run_once(const Op& op, const torch::Tensor& elements, Measured& measured) {
  const int64_t rounds = std::max<int64_t>(1, kBucketElements / elements.numel());
  double encoding = 0;
  double decoding = 0;
  double off = 0;
  int64_t payload_bytes = 0;
  for (const torch::Tensor& bucket : elements.split(kBucketElements)) {
    torch::Tensor sums = torch::zeros_like(bucket);
    op.decode_add(op.encode(bucket), sums);
    off += (sums - bucket).to(torch::kFloat64).square().sum().item<double>();
    payload_bytes += op.payload_bytes(bucket.numel());
    for (int64_t round = 0; round < rounds; ++round) {
      const double start = cpu_seconds();
      const torch::Tensor coded = op.encode(bucket);
      const double middle = cpu_seconds();
      op.decode_add(coded, sums);
      encoding += middle - start;
      decoding += cpu_seconds() - middle;
    }
  }
  const auto raw = static_cast<double>(elements.nbytes());
  measured.ratio = raw / static_cast<double>(payload_bytes);
  measured.error = std::sqrt(off) / elements.to(torch::kFloat64).norm().item<double>();
  measured.encode.push_back(raw * static_cast<double>(rounds) / encoding / 1e9);
  measured.decode_add.push_back(raw * static_cast<double>(rounds) / decoding / 1e9);
}

void print_row(const std::string& data, const Op& op, const char* metric, const char* unit,
               std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const double median = values[values.size() / 2];
  const std::string simd = at::get_cpu_capability();
  JsonObject line;
  line.set("bench", "codecs").set("case", str_cat(data, ", fp32, ", op.name, ", ", simd));
  line.set("data", data).set("type", "fp32").set("codec", op.name).set("stage", "");
  line.set("simd", simd).set("cores", 1);
  line.set("metric", metric).set("value", median).set("unit", unit).set("runs", values.size());
  if (values.size() > 1) line.set("spread", (values.back() - values.front()) / median);
  std::puts(line.str().c_str());
}

torch::Tensor read_file(const std::string& path) {
  const auto count = static_cast<int64_t>(std::filesystem::file_size(path) / sizeof(float));
  torch::Tensor elements = torch::empty({count});
  std::ifstream file(path, std::ios::binary);
  file.read(static_cast<char*>(elements.data_ptr()),
            static_cast<std::streamsize>(elements.nbytes()));
  if (!file || count == 0) throw std::runtime_error("cannot read " + path);
  return elements;
}

void run(int runs, const std::vector<std::string>& dumps) {
  torch::set_num_threads(1);
  const torch::NoGradGuard no_grad;
  for (const std::string& path : dumps) {
    const torch::Tensor elements = read_file(path);
    const std::string data = std::filesystem::path(path).stem().string();
    for (const Op& op : ops()) {
      Measured warm_up;
      run_once(op, elements, warm_up);
      Measured measured;
      for (int i = 0; i < runs; ++i) run_once(op, elements, measured);
      print_row(data, op, "ratio", "x", {measured.ratio});
      print_row(data, op, "error", "of the norm", {measured.error});
      print_row(data, op, "encode", "GB/s", measured.encode);
      print_row(data, op, "decode_add", "GB/s", measured.decode_add);
    }
  }
}

}  // namespace
}  // namespace longhaul::bench

int main(int argc, char** argv) {
  int runs = 5;
  std::vector<std::string> dumps;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--runs" && i + 1 < argc) {
      runs = std::atoi(argv[++i]);
    } else {
      dumps.emplace_back(argv[i]);
    }
  }
  if (dumps.empty() || runs < 1) {
    std::fputs("usage: torch_quantize [--runs N] DUMP...   (flat fp32 files)\n", stderr);
    return 64;
  }
  try {
    longhaul::bench::run(runs, dumps);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "torch_quantize: %s\n", error.what());
    return 1;
  }
}
