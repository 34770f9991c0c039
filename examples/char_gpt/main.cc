// A small GPT that learns the bytes of a text, alone or over several ranks. The four lines that
// make the training loop distributed are marked (1) to (4), the one that lets it be stopped (5);
// the rest of the loop is plain libtorch.
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <thread>

#include "examples/char_gpt/bigram.h"
#include "examples/char_gpt/checkpoint.h"
#include "examples/char_gpt/model.h"
#include "examples/char_gpt/options.h"
#include "examples/char_gpt/outcome.h"
#include "examples/char_gpt/report.h"
#include "examples/char_gpt/text.h"
#include "examples/char_gpt/training.h"
#include "examples/char_gpt/windows.h"
#include "longhaul/longhaul.h"

namespace char_gpt {
namespace {

using longhaul::CodecSpec;
using longhaul::World;
using Ddp = longhaul::DistributedDataParallel<Gpt>;

constexpr double kLargestNorm = 1.0;       // gradients are clipped to it
constexpr int64_t kHeldOutWindows = 1024;  // at most
constexpr double kSmoothing = 0.95;  // one batch is small: its loss is shown averaged over some 20
constexpr int64_t kProgressLines = 10;     // printed in a whole run
const std::string kPrompt = "#include <";  // what the sample continues

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool wants_dump(const Options& options, int rank, int64_t step) {
  const std::vector<int64_t>& steps = options.dump_steps;
  return !options.dump_gradients.empty() && rank == 0 &&
         std::find(steps.begin(), steps.end(), step) != steps.end();
}

// Tells the worker that launched this rank, if one did; rank 0 also prints a few plain lines.
void report_progress(World& world, const Options& options, int64_t step, double loss,
                     double tokens_per_second) {
  world.report({.step = step,
                .total_steps = options.steps,
                .loss = loss,
                .tokens_per_second = tokens_per_second,
                .codec = options.codec});
  const int64_t lines = std::min(kProgressLines, options.steps);
  if (world.rank() != 0 || step * lines / options.steps == (step - 1) * lines / options.steps) {
    return;
  }
  std::printf("step %ld of %ld  loss %.4f  %.0f tokens/s\n", step, options.steps, loss,
              tokens_per_second * world.size());
}

// Ranks that share a host share its cores. OMP_NUM_THREADS, where set, goes first.
void set_threads(const World& world) {
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  torch::set_num_threads(std::max(1, cores / world.local_size()));
}

struct Trained {
  double seconds = 0;
  int64_t steps = 0;  // done here, without those of an earlier run
  bool stopped = false;
};

// Every rank goes on from the same file, and rank 0 writes it.
Trained train(World& world, Ddp& model, const Options& options, const Corpus& corpus) {
  auto optimizer = make_optimizer(model.model(), options);
  const int64_t first = options.checkpoint.empty()
                            ? 0
                            : load_checkpoint(model.model(), *optimizer, options.checkpoint);
  Trained trained;
  RandomWindows windows(corpus.training, options.batch, options.context, options.seed,
                        world.rank());  // (4) each rank learns from its own part of the text
  for (int64_t step = 0; step < first; ++step) windows.next();
  double recent_loss = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = first + 1; step <= options.steps && !trained.stopped; ++step) {
    set_learning_rate(*optimizer, learning_rate(step, options));
    const Batch batch = windows.next();
    const torch::Tensor loss =
        mean_loss(model(batch.inputs.to(world.device())), batch.targets.to(world.device()));
    if (wants_dump(options, world.rank(), step)) {
      dump_gradients(loss, *model.model(), options.dump_gradients, step);
    }
    optimizer->zero_grad();
    loss.backward();
    torch::nn::utils::clip_grad_norm_(model.model()->parameters(), kLargestNorm);
    optimizer->step();
    const double tokens = static_cast<double>(++trained.steps * options.batch * options.context);
    recent_loss = step == first + 1
                      ? loss.item<double>()
                      : kSmoothing * recent_loss + (1 - kSmoothing) * loss.item<double>();
    report_progress(world, options, step, recent_loss, tokens / seconds_since(start));
    trained.stopped = world.agree_to_stop();  // (5) all ranks leave the loop after the same step
  }
  trained.seconds = seconds_since(start);
  if (!options.checkpoint.empty() && world.rank() == 0) {
    save_checkpoint(model.model(), *optimizer, first + trained.steps, options.checkpoint);
  }
  if (trained.stopped && world.rank() == 0) {
    std::printf("asked to stop: left after step %ld\n", first + trained.steps);
  }
  return trained;
}

void write_report(const Report& report, const std::string& path) {
  std::ofstream file(path);
  file << to_json(report) << "\n";
  file.close();
  if (!file) throw std::runtime_error("cannot write the report to " + path);
}

void print_sample(Gpt& model, const Options& options) {
  std::mt19937_64 random(options.seed);
  const std::string text = generate(model, kPrompt, options.sample, random);
  std::cout << "\n--- what it writes after '" << kPrompt << "'\n"
            << kPrompt << printable(text) << "\n---\n";
}

int run(World& world, const Options& options, const Corpus& corpus) {
  set_threads(world);
  torch::manual_seed(options.seed);
  Gpt model(GptShape{options.context, options.layers, options.heads, options.width});
  model->to(world.device());
  longhaul::DistributedDataParallelOptions ddp_options;
  ddp_options.codec = CodecSpec::parse(options.codec).value_or_throw();  // (2) how gradients travel
  Ddp ddp(world, model, ddp_options);                                    // (3) wrap the model

  Report report;
  report.world_size = world.size();
  report.codec = options.codec;
  const Trained trained = train(world, ddp, options, corpus);
  if (trained.stopped) return 0;  // within the grace
  report.seconds = trained.seconds;
  report.tokens_per_second =
      static_cast<double>(trained.steps * options.batch * options.context * world.size()) /
      std::max(report.seconds, 1e-9);

  const HeldOutWindows held_out(corpus.held_out, options.context, kHeldOutWindows);
  const LossSum loss = held_out_loss(model, held_out, world.rank(), world.size(), world.device());
  report.link_bytes_per_second =
      world.communicator()->measure_links(static_cast<uint64_t>(options.steps));
  const auto traffic = ddp.traffic();
  report.codec_in_use = traffic.codec;
  add_outcomes(gather_outcomes(world, {parameter_hash(*model), loss.sum, loss.bytes,
                                       traffic.bytes_raw, traffic.bytes_sent}),
               &report);
  if (const std::string wrong = disagreement(report); !wrong.empty()) {
    throw std::runtime_error(wrong);
  }
  if (world.rank() != 0) return 0;
  report.bigram_loss = held_out.score(BigramModel(corpus.training));
  if (options.sample > 0) print_sample(model, options);
  std::cout << to_text(report) << std::flush;
  if (!options.report.empty()) write_report(report, options.report);
  return 0;
}

int complain(const longhaul::Failure& failure, int code) {
  std::cerr << "char_gpt: " << failure.message << "\n";
  return code;
}

}  // namespace
}  // namespace char_gpt

int main(int argc, char** argv) {
  using namespace char_gpt;
  const auto options = parse_options({argv + 1, argv + argc});
  if (!options) return complain(options.failure(), kExitUsage);
  if (options->help) {
    std::cout << usage();
    return 0;
  }
  const auto corpus = load_corpus(options->text, options->max_bytes, options->context);
  if (!corpus) return complain(corpus.failure(), kExitNoInput);
  try {
    World world = longhaul::init();  // (1) who am I, and who are the others?
    return run(world, *options, *corpus);
  } catch (const std::exception& error) {
    std::cerr << "char_gpt: " << error.what() << "\n";
    return 1;
  }
}
