#include "ddp/model_signature.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/ddp/training.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;

ModelSignature signature_of(const torch::nn::Module& module,
                            const DistributedDataParallelOptions& options = {}) {
  return describe(module, options);
}

std::string difference(const ModelSignature& rank_0, const ModelSignature& other) {
  return explain_difference(rank_0, other, 2).value_or("none");
}

TEST(ModelSignature, ComesBackFromItsText) {
  const testing::Mlp model;
  ModelSignature signature = signature_of(*model);
  signature.problem = "no paper";
  const ModelSignature back = decode_signature(encode(signature));
  EXPECT_EQ(back.problem, "no paper");
  EXPECT_EQ(back.entries, signature.entries);
  EXPECT_EQ(difference(signature_of(*model), signature_of(*testing::Mlp())), "none");
}

TEST(ModelSignature, NamesRankParameterAndBothShapes) {
  EXPECT_EQ(difference(signature_of(*testing::Mlp(17)), signature_of(*testing::Mlp(18))),
            "models differ between ranks: rank 2's parameter 'first.weight' is float [18, 7] where "
            "rank 0's is float [17, 7]");
}

TEST(ModelSignature, NamesBothTypesAndWhatIsFrozen) {
  testing::Mlp half;
  half->second->to(torch::kBFloat16);
  EXPECT_EQ(difference(signature_of(*testing::Mlp()), signature_of(*half)),
            "models differ between ranks: rank 2's parameter 'second.weight' is c10::BFloat16 [3, "
            "17] where rank 0's is float "
            "[3, 17]");
  testing::Mlp frozen;
  frozen->first->bias.set_requires_grad(false);
  EXPECT_THAT(difference(signature_of(*testing::Mlp()), signature_of(*frozen)),
              HasSubstr("'first.bias' is float [17] (frozen) where rank 0's is float [17]"));
}

TEST(ModelSignature, NamesWhatIsMissingOrTooMany) {
  testing::Mlp larger;
  larger->register_parameter("scale", torch::ones({2}));
  EXPECT_THAT(difference(signature_of(*testing::Mlp()), signature_of(*larger)),
              HasSubstr("rank 2 has parameter 'scale' (float [2])"));
  testing::Mlp buffered;
  buffered->register_buffer("mean", torch::ones({2}));
  EXPECT_EQ(difference(signature_of(*buffered), signature_of(*testing::Mlp())),
            "models differ between ranks: rank 2 lacks buffer 'mean' (float [2]) that rank 0 has");
}

TEST(ModelSignature, NamesOptionsThatMustAgree) {
  const testing::Mlp model;
  DistributedDataParallelOptions options;
  options.codec = testing::codec("zstd");
  EXPECT_EQ(difference(signature_of(*model), signature_of(*model, options)),
            "options differ between ranks: rank 2's option 'codec' is zstd where rank 0's is none");
  DistributedDataParallelOptions caps;
  caps.bucket_cap_mb = 4;
  EXPECT_EQ(
      difference(signature_of(*model), signature_of(*model, caps)),
      "options differ between ranks: rank 2's option 'bucket_cap_mb' is 4 where rank 0's is unset");
}

}  // namespace
}  // namespace longhaul
