#include "ddp/model_signature.h"

#include <torch/nn/module.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ddp/names.h"
#include "longhaul/base/bytes.h"
#include "longhaul/base/strings.h"
#include "longhaul/ddp/model_mismatch_error.h"

namespace longhaul {
namespace {

// Far above any model's list of parameters (a million take about 60 MB); a wild size stops here.
constexpr int64_t kMaxSignatureBytes = int64_t{1} << 30;

std::string describe_tensor(const at::Tensor& tensor, bool with_gradient) {
  std::string text = str_cat(tensor.dtype().name(), " ", tensor.sizes());
  // Elements of a bucket lie as those of the parameter do.
  if (tensor.layout() == at::kStrided && !tensor.is_contiguous())
    text += str_cat(" with strides ", tensor.strides());
  if (with_gradient && !tensor.requires_grad()) text += " (frozen)";
  return text;
}

// FNV-1a: the same on every machine, which std::hash does not promise.
uint64_t hash_of(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return hash;
}

std::vector<at::Tensor> all_gather(Communicator& communicator, at::Tensor mine) {
  std::vector<std::vector<at::Tensor>> outputs(1);
  for (Rank rank = 0; rank < communicator.size(); ++rank)
    outputs[0].push_back(at::empty_like(mine));
  std::vector<at::Tensor> inputs{std::move(mine)};
  communicator.process_group()->allgather(outputs, inputs)->wait();
  return outputs[0];
}

std::string what_differs(const SignatureEntry& entry) {
  return entry.kind == "option" ? "options differ between ranks: "
                                : "models differ between ranks: ";
}

std::string text_of(const SignatureEntry& entry) {
  return str_cat(entry.kind, " '", entry.name, "' (", entry.value, ")");
}

// Every rank's signature, as text. Two rounds: hashes and sizes first, texts only when they differ.
// So the usual start exchanges 16 bytes a rank, and an all-gather of texts knows the longest one.
std::vector<std::string> exchange_texts(Communicator& communicator, const std::string& mine) {
  at::Tensor head = at::empty({2}, at::kLong);
  head.mutable_data_ptr<int64_t>()[0] = static_cast<int64_t>(hash_of(mine));
  head.mutable_data_ptr<int64_t>()[1] = static_cast<int64_t>(mine.size());
  const std::vector<at::Tensor> heads = all_gather(communicator, head);
  const bool all_equal = std::all_of(
      heads.begin(), heads.end(), [&](const at::Tensor& other) { return other.equal(heads[0]); });
  if (all_equal) return std::vector<std::string>(heads.size(), mine);

  int64_t longest = 0;
  for (const at::Tensor& other : heads) {
    const int64_t bytes = other.const_data_ptr<int64_t>()[1];
    LONGHAUL_CHECK(bytes >= 0);
    LONGHAUL_CHECK(bytes <= kMaxSignatureBytes);
    longest = std::max(longest, bytes);
  }
  at::Tensor body = at::zeros({longest}, at::kByte);
  std::memcpy(body.mutable_data_ptr<uint8_t>(), mine.data(), mine.size());
  const std::vector<at::Tensor> bodies = all_gather(communicator, body);
  std::vector<std::string> texts;
  for (size_t rank = 0; rank < bodies.size(); ++rank) {
    const auto* bytes = reinterpret_cast<const char*>(bodies[rank].const_data_ptr<uint8_t>());
    texts.emplace_back(bytes, static_cast<size_t>(heads[rank].const_data_ptr<int64_t>()[1]));
  }
  return texts;
}

}  // namespace

ModelSignature describe(const torch::nn::Module& module,
                        const DistributedDataParallelOptions& options) {
  ModelSignature signature;
  const auto add_option = [&](const std::string& name, const auto& value) {
    signature.entries.push_back({"option", name, str_cat(value)});
  };
  add_option("codec", options.codec.str());
  add_option("error_feedback", options.error_feedback ? "true" : "false");
  // Printed as set: an unset cap is PyTorch's default, which also changes the first bucket.
  add_option("bucket_cap_mb",
             options.bucket_cap_mb ? str_cat(*options.bucket_cap_mb) : std::string("unset"));
  add_option("first_bucket_cap_mb", options.first_bucket_cap_mb
                                        ? str_cat(*options.first_bucket_cap_mb)
                                        : std::string("unset"));
  std::vector<std::string> caps;
  caps.reserve(options.bucket_cap_mb_list.size());
  for (const double mb : options.bucket_cap_mb_list) caps.push_back(str_cat(mb));
  add_option("bucket_cap_mb_list", str_cat("[", join(caps, ", "), "]"));
  add_option("find_unused_parameters", options.find_unused_parameters);
  add_option("skip_all_reduce_unused_params", options.skip_all_reduce_unused_params);
  add_option("static_graph", options.static_graph);
  add_option("broadcast_buffers", options.broadcast_buffers);
  add_option("reduce_dtype", options.reduce_dtype ? at::toString(*options.reduce_dtype) : "unset");
  add_option("delay_all_reduce", str_cat("[", join(options.delay_all_reduce, ", "), "]"));
  const std::vector<std::string>& ignored = options.params_and_buffers_to_ignore;
  for (const auto& item : module.named_parameters())
    if (!is_among(ignored, item.key()))
      signature.entries.push_back({"parameter", item.key(), describe_tensor(item.value(), true)});
  for (const auto& item : module.named_buffers())
    if (item.value().defined() && !is_among(ignored, item.key()))
      signature.entries.push_back({"buffer", item.key(), describe_tensor(item.value(), false)});
  return signature;
}

std::string encode(const ModelSignature& signature) {
  std::string text = signature.problem + "\n";
  for (const SignatureEntry& entry : signature.entries)
    text += entry.kind + "\t" + entry.name + "\t" + entry.value + "\n";
  return text;
}

ModelSignature decode_signature(const std::string& text) {
  ModelSignature signature;
  const std::vector<std::string> lines = split(text, '\n');
  if (!lines.empty()) signature.problem = lines[0];
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::vector<std::string> fields = split(lines[i], '\t');
    if (fields.size() == 3) signature.entries.push_back({fields[0], fields[1], fields[2]});
  }
  return signature;
}

std::optional<std::string> explain_difference(const ModelSignature& rank_0,
                                              const ModelSignature& other, Rank rank) {
  if (!other.problem.empty()) return str_cat("rank ", rank, " cannot start: ", other.problem);
  const size_t common = std::min(rank_0.entries.size(), other.entries.size());
  for (size_t i = 0; i < common; ++i) {
    const SignatureEntry& expected = rank_0.entries[i];
    const SignatureEntry& seen = other.entries[i];
    if (seen == expected) continue;
    const std::string what = what_differs(seen);
    if (seen.kind == expected.kind && seen.name == expected.name)
      return str_cat(what, "rank ", rank, "'s ", seen.kind, " '", seen.name, "' is ", seen.value,
                     " where rank 0's is ", expected.value);
    return str_cat(what, "rank ", rank, " has ", text_of(seen), " where rank 0 has ",
                   text_of(expected));
  }
  if (rank_0.entries.size() > common)
    return str_cat(what_differs(rank_0.entries[common]), "rank ", rank, " lacks ",
                   text_of(rank_0.entries[common]), " that rank 0 has");
  if (other.entries.size() > common)
    return str_cat(what_differs(other.entries[common]), "rank ", rank, " has ",
                   text_of(other.entries[common]), " that rank 0 lacks");
  return std::nullopt;
}

void check_same_model(Communicator& communicator, const ModelSignature& mine) {
  std::vector<ModelSignature> signatures;
  for (const std::string& text : exchange_texts(communicator, encode(mine)))
    signatures.push_back(decode_signature(text));
  // A problem that all ranks have is nobody's difference: each throws it as its own.
  const bool same_problem = std::all_of(
      signatures.begin(), signatures.end(),
      [&](const ModelSignature& signature) { return signature.problem == mine.problem; });
  if (same_problem && !mine.problem.empty()) throw Error(ErrorKind::kInvalid, mine.problem);
  for (size_t rank = 0; rank < signatures.size(); ++rank) {
    const auto difference =
        explain_difference(signatures[0], signatures[rank], static_cast<Rank>(rank));
    if (difference) throw ModelMismatchError(*difference, static_cast<Rank>(rank));
  }
}

}  // namespace longhaul
