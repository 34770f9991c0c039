#include "ddp/join_group.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// What a rank says before a pass, in one number. 0: it has no more inputs.
constexpr int64_t kActive = 1;
constexpr int64_t kWithGradients = 2;
constexpr int64_t kReduces = 4;
constexpr int64_t kLearnsGraph = 8;
constexpr int64_t kBackward = 16;
constexpr int64_t kModel = 32;  // and above: the model's number

std::string names_of(const std::vector<Rank>& ranks) {
  std::vector<std::string> names;
  names.reserve(ranks.size());
  for (const Rank rank : ranks) names.push_back(std::to_string(rank));
  return str_cat(ranks.size() > 1 ? "ranks " : "rank ", join(names, ", "));
}

std::string name_of(bool backward, size_t model) {
  return str_cat(backward ? "backward" : "forward", " pass of model number ", model + 1);
}

// The Reducer takes the number of ranks to divide by from the result of a Work, which in Python is
// an all-reduce. Here it is known already, so this Work is done from the start.
class Count final : public c10d::Work {
 public:
  explicit Count(int ranks) : ranks_(at::full({1}, ranks, at::kLong)) {}
  bool isCompleted() override { return true; }
  bool isSuccess() const override { return true; }
  bool wait(std::chrono::milliseconds /*timeout*/) override { return true; }
  std::vector<at::Tensor> result() override { return {ranks_}; }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    auto future =
        c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()));
    future->markCompleted(c10::IValue(result()));
    return future;
  }

 private:
  const at::Tensor ranks_;
};

}  // namespace

c10::intrusive_ptr<c10d::Work> count_as_work(int ranks) {
  return c10::make_intrusive<Count>(ranks);
}

JoinGroup::JoinGroup(Communicator& communicator, const JoinOptions& options)
    : group_(communicator.new_process_group("join")), options_(options) {}

JoinedPass JoinGroup::announce_forward(size_t model, bool with_gradients, bool reduces,
                                       bool learns_graph) {
  return exchange(static_cast<int64_t>(model) * kModel | kActive |
                  (with_gradients ? kWithGradients : 0) | (reduces ? kReduces : 0) |
                  (learns_graph ? kLearnsGraph : 0));
}

JoinedPass JoinGroup::announce_backward(size_t model) {
  return exchange(static_cast<int64_t>(model) * kModel | kActive | kBackward);
}

JoinedPass JoinGroup::follow() {
  return exchange(0);
}

Rank JoinGroup::agree_on_last(bool came_last) {
  const std::vector<int64_t> last = gather(came_last ? 1 : 0);
  const auto highest = std::find(last.rbegin(), last.rend(), 1);
  return static_cast<Rank>(last.rend() - highest) - 1;
}

// Every rank computes the pass from the same numbers, so all agree on it, or throw the same.
JoinedPass JoinGroup::exchange(int64_t flags) {
  JoinedPass pass;
  const std::vector<int64_t> of_ranks = gather(flags);
  for (size_t rank = 0; rank < of_ranks.size(); ++rank) {
    if ((of_ranks[rank] & kActive) == 0) {
      pass.through.push_back(static_cast<Rank>(rank));
      continue;
    }
    const auto model = static_cast<size_t>(of_ranks[rank] / kModel);
    const bool backward = (of_ranks[rank] & kBackward) != 0;
    if (pass.active > 0 && (model != pass.model || backward != pass.backward))
      throw Error(ErrorKind::kInvalid,
                  str_cat("ranks run different passes within a Join: rank ", pass.authority,
                          " the ", name_of(pass.backward, pass.model), ", rank ", rank, " the ",
                          name_of(backward, model)));
    pass.model = model;
    pass.backward = backward;
    ++pass.active;
    pass.authority = static_cast<Rank>(rank);
    pass.with_gradients |= (of_ranks[rank] & kWithGradients) != 0;
    pass.reduces |= (of_ranks[rank] & kReduces) != 0;
    pass.learns_graph |= (of_ranks[rank] & kLearnsGraph) != 0;
  }
  if (options_.throw_on_early_end && pass.active > 0 && !pass.through.empty())
    throw Error(ErrorKind::kUnavailable, str_cat(names_of(pass.through), " of ", of_ranks.size(),
                                                 pass.through.size() > 1 ? " have" : " has",
                                                 " no more inputs, and throw_on_early_end is on"));
  return pass;
}

std::vector<int64_t> JoinGroup::gather(int64_t value) {
  std::vector<at::Tensor> mine = {at::full({1}, value, at::kLong)};
  std::vector<std::vector<at::Tensor>> outputs(1);
  for (int rank = 0; rank < group_->getSize(); ++rank)
    outputs[0].push_back(at::zeros({1}, at::kLong));
  group_->allgather(outputs, mine)->wait();
  std::vector<int64_t> values;
  values.reserve(outputs[0].size());
  for (const at::Tensor& one : outputs[0]) values.push_back(one.item<int64_t>());
  return values;
}

}  // namespace longhaul
