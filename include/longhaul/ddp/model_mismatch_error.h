// Thrown by DistributedDataParallel's constructor, on every rank alike, when the ranks wrapped
// different models or gave options that must agree.
#pragma once

#include <string>

#include "longhaul/agent/ids.h"
#include "longhaul/base/error.h"

namespace longhaul {

// Its kind is kInvalid. what(): "rank 2's parameter 'fc.weight' is float [3, 4] where rank 0's is
// ...".
class ModelMismatchError : public Error {
 public:
  ModelMismatchError(const std::string& message, Rank rank)
      : Error(ErrorKind::kInvalid, message), rank_(rank) {}

  // The first rank that differs from rank 0.
  Rank rank() const { return rank_; }

 private:
  Rank rank_;
};

}  // namespace longhaul
