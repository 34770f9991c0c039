#include "longhaul/ddp/for_each_tensor.h"

#include <gtest/gtest.h>

#include <torch/torch.h>
#include <array>
#include <map>

namespace elsewhere {

struct Output {
  torch::Tensor logits;
  std::vector<torch::Tensor> states;
  int64_t tokens = 0;
};

template <typename Visitor>
void for_each_tensor(Output& output, Visitor&& visit) {
  visit(output.logits);
  visit(output.states);
  visit(output.tokens);
}

struct Closed {
  torch::Tensor inside;
};

}  // namespace elsewhere

namespace longhaul::detail {
namespace {

torch::Tensor one() {
  return torch::ones({1});
}

template <typename T>
size_t count(T value) {
  const FoundTensors found = find_tensors(value);
  EXPECT_EQ(found.opaque, nullptr);
  return found.tensors.size();
}

TEST(ForEachTensor, LooksIntoWhatTheStandardLibraryHas) {
  EXPECT_EQ(count(one()), 1u);
  EXPECT_EQ(count(std::tuple(one(), 3, std::string("x"), one())), 2u);
  EXPECT_EQ(count(std::pair(one(), std::tuple(one(), one()))), 3u);
  EXPECT_EQ(count(std::vector<torch::Tensor>{one(), one()}), 2u);
  EXPECT_EQ(count(std::array<torch::Tensor, 3>{one(), one(), one()}), 3u);
  EXPECT_EQ(count(std::map<std::string, torch::Tensor>{{"a", one()}, {"b", one()}}), 2u);
  EXPECT_EQ(count(std::optional<torch::Tensor>()), 0u);
  EXPECT_EQ(count(std::optional(one())), 1u);
  EXPECT_EQ(count(std::variant<int, torch::Tensor>(one())), 1u);
  EXPECT_EQ(count(std::make_shared<torch::Tensor>(one())), 1u);
  EXPECT_EQ(count(std::vector<int64_t>{1, 2}), 0u);
  EXPECT_EQ(count(std::vector<bool>{true}), 0u);
  EXPECT_EQ(count(3.5), 0u);
}

TEST(ForEachTensor, AsksAStructForItsOwnByArgumentDependentLookup) {
  elsewhere::Output output{one(), {one(), one()}, 4};
  EXPECT_EQ(find_tensors(output).tensors.size(), 3u);
  EXPECT_EQ(count(std::vector<elsewhere::Output>{output, output}), 6u);
}

TEST(ForEachTensor, PointsAtTheTensorsThemselves) {
  auto output = std::tuple(one(), std::vector<torch::Tensor>{one()});
  for (at::Tensor* tensor : find_tensors(output).tensors) *tensor = torch::full({1}, 7.0);
  EXPECT_EQ(std::get<0>(output).item<float>(), 7);
  EXPECT_EQ(std::get<1>(output)[0].item<float>(), 7);
}

TEST(ForEachTensor, NamesATypeItCannotLookInto) {
  std::tuple<torch::Tensor, elsewhere::Closed> output{one(), {one()}};
  const FoundTensors found = find_tensors(output);
  EXPECT_EQ(found.tensors.size(), 1u);
  ASSERT_NE(found.opaque, nullptr);
  EXPECT_EQ(*found.opaque, typeid(elsewhere::Closed));
}

}  // namespace
}  // namespace longhaul::detail
