// What of one worker is in use: slots and memory by amount, GPUs one by one.
#pragma once

#include <set>
#include <vector>

#include "cluster/scheduling/resources.h"

namespace longhaul {

class WorkerUse {
 public:
  const Resources& used() const { return used_; }

  // The `count` lowest GPUs below `total` that are nobody's; fewer when there are not so many.
  std::vector<int> free_gpus(int total, int count) const;

  // `gpus` may be empty where it is not known which ones they are: they count all the same.
  void take(const Resources& amount, const std::vector<int>& gpus);
  // Exactly as they were taken, once: what is given back twice would be granted twice.
  void give_back(const Resources& amount, const std::vector<int>& gpus);

 private:
  Resources used_;
  std::set<int> gpus_;
};

}  // namespace longhaul
