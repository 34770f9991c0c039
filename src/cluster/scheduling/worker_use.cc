#include "cluster/scheduling/worker_use.h"

namespace longhaul {

std::vector<int> WorkerUse::free_gpus(int total, int count) const {
  std::vector<int> found;
  for (int gpu = 0; gpu < total && static_cast<int>(found.size()) < count; ++gpu) {
    if (!gpus_.contains(gpu)) found.push_back(gpu);
  }
  return found;
}

void WorkerUse::take(const Resources& amount, const std::vector<int>& gpus) {
  used_ = used_ + amount;
  gpus_.insert(gpus.begin(), gpus.end());
}

void WorkerUse::give_back(const Resources& amount, const std::vector<int>& gpus) {
  used_ = used_ - amount;
  for (const int gpu : gpus) gpus_.erase(gpu);
}

}  // namespace longhaul
