// What a training needs to go on where it was: parameters, optimizer, step. Plain libtorch.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>

#include "examples/char_gpt/model.h"

namespace char_gpt {

// Replaces `path` as a whole: whoever is killed meanwhile leaves the one before. Throws when it
// cannot be written.
void save_checkpoint(const Gpt& model, const torch::optim::Optimizer& optimizer, int64_t step,
                     const std::string& path);

// Returns the step it was saved after; 0 when there is none, and nothing is loaded. Throws when it
// is of another model.
int64_t load_checkpoint(Gpt& model, torch::optim::Optimizer& optimizer, const std::string& path);

}  // namespace char_gpt
