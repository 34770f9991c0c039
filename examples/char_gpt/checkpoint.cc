#include "examples/char_gpt/checkpoint.h"

#include <filesystem>

namespace char_gpt {

void save_checkpoint(const Gpt& model, const torch::optim::Optimizer& optimizer, int64_t step,
                     const std::string& path) {
  torch::serialize::OutputArchive archive;
  torch::serialize::OutputArchive parameters;
  torch::serialize::OutputArchive state;
  model->save(parameters);
  optimizer.save(state);
  archive.write("model", parameters);
  archive.write("optimizer", state);
  archive.write("step", torch::tensor(step, torch::kInt64));
  archive.save_to(path + ".new");
  std::filesystem::rename(path + ".new", path);
}

int64_t load_checkpoint(Gpt& model, torch::optim::Optimizer& optimizer, const std::string& path) {
  if (!std::filesystem::exists(path)) return 0;
  torch::serialize::InputArchive archive;
  archive.load_from(path);
  torch::serialize::InputArchive parameters;
  torch::serialize::InputArchive state;
  torch::Tensor step;
  archive.read("model", parameters);
  archive.read("optimizer", state);
  archive.read("step", step);
  model->load(parameters);
  optimizer.load(state);
  return step.item<int64_t>();
}

}  // namespace char_gpt
