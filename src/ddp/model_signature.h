// What must agree between ranks before a Reducer may be built on it: parameters, buffers, options.
// A mismatch found here is an error with a name; found later it is a hang or a wrong sum.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "longhaul/collectives/communicator.h"
#include "longhaul/ddp/options.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace longhaul {

// One thing of a rank: an option, a parameter or a buffer.
struct SignatureEntry {
  std::string kind;   // "option", "parameter", "buffer"
  std::string name;   // "codec", "fc.weight"
  std::string value;  // "zstd", "float [3, 4]"
  bool operator==(const SignatureEntry&) const = default;
};

struct ModelSignature {
  // Not empty when this rank cannot start at all; then the others should not wait for it.
  std::string problem;
  std::vector<SignatureEntry> entries;
};

ModelSignature describe(const torch::nn::Module& module,
                        const DistributedDataParallelOptions& options);

std::string encode(const ModelSignature& signature);
ModelSignature decode_signature(const std::string& text);

// What is wrong with `other`, the signature of `rank`, in words: "models differ between ranks:
// ...", "options differ between ranks: ..." or "rank 2 cannot start: ..."; nullopt when nothing is.
std::optional<std::string> explain_difference(const ModelSignature& rank_0,
                                              const ModelSignature& other, Rank rank);

// Collective. Throws, the same on every rank: ModelMismatchError, or, when every rank has the same
// problem of its own, Error(kInvalid) with that.
void check_same_model(Communicator& communicator, const ModelSignature& mine);

}  // namespace longhaul
