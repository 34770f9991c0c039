#include "examples/char_gpt/outcome.h"

#include <torch/torch.h>

#include <bit>
#include <cstdio>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "longhaul/base/strings.h"

namespace char_gpt {
namespace {

constexpr int64_t kFields = 5;

std::string hex(uint64_t number) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(number));
  return text;
}

}  // namespace

std::vector<Outcome> gather_outcomes(const longhaul::World& world, const Outcome& mine) {
  std::vector<torch::Tensor> inputs = {
      torch::tensor({static_cast<int64_t>(mine.parameter_hash),
                     std::bit_cast<int64_t>(mine.loss_sum), mine.loss_bytes,
                     static_cast<int64_t>(mine.bytes_raw), static_cast<int64_t>(mine.bytes_sent)},
                    torch::kInt64)};
  std::vector<std::vector<torch::Tensor>> outputs(1);
  for (int rank = 0; rank < world.size(); ++rank) {
    outputs[0].push_back(torch::empty({kFields}, torch::kInt64));
  }
  world.process_group()->allgather(outputs, inputs)->wait();
  std::vector<Outcome> outcomes;
  for (const torch::Tensor& output : outputs[0]) {
    const auto* fields = output.const_data_ptr<int64_t>();
    outcomes.push_back({static_cast<uint64_t>(fields[0]), std::bit_cast<double>(fields[1]),
                        fields[2], static_cast<uint64_t>(fields[3]),
                        static_cast<uint64_t>(fields[4])});
  }
  return outcomes;
}

void add_outcomes(const std::vector<Outcome>& outcomes, Report* report) {
  Outcome sum;
  for (const Outcome& outcome : outcomes) {
    report->parameter_hashes.push_back(hex(outcome.parameter_hash));
    sum.loss_sum += outcome.loss_sum;
    sum.loss_bytes += outcome.loss_bytes;
    sum.bytes_raw += outcome.bytes_raw;
    sum.bytes_sent += outcome.bytes_sent;
  }
  report->held_out_loss = sum.loss_sum / static_cast<double>(sum.loss_bytes);
  report->bytes_raw = sum.bytes_raw;
  report->bytes_sent = sum.bytes_sent;
}

std::string disagreement(const Report& report) {
  std::string text;
  for (size_t rank = 1; rank < report.parameter_hashes.size(); ++rank) {
    if (report.parameter_hashes[rank] != report.parameter_hashes[0]) {
      text += longhaul::str_cat(" rank ", rank, ": ", report.parameter_hashes[rank]);
    }
  }
  if (text.empty()) return "";
  return longhaul::str_cat(
      "the ranks ended with different parameters. rank 0: ", report.parameter_hashes[0], text);
}

}  // namespace char_gpt
