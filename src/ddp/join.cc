#include "longhaul/ddp/join.h"

#include <exception>
#include <utility>

#include "base/log.h"
#include "ddp/join_group.h"

namespace longhaul {

Join::Join(const JoinOptions& options, Cores cores) : cores_(std::move(cores)) {
  if (cores_.empty()) throw Error(ErrorKind::kInvalid, "Join needs at least one wrapped model");
  for (const auto& core : cores_)
    if (core->communicator() != cores_[0]->communicator())
      throw Error(ErrorKind::kInvalid, "Join takes models of one world");
  if (cores_[0]->communicator()->size() == 1) return;  // nobody to wait for
  group_ = std::make_shared<JoinGroup>(*cores_[0]->communicator(), options);
  for (size_t i = 0; i < cores_.size(); ++i) cores_[i]->set_join(group_, i);
}

Join::~Join() {
  if (group_ && std::uncaught_exceptions() == 0)
    log(LogLevel::kError, "ddp",
        "a Join ended without finish(): other ranks may wait for this one");
  leave();
}

void Join::leave() {
  if (!group_) return;
  for (const auto& core : cores_) core->set_join(nullptr, 0);
  group_.reset();
}

void Join::finish() {
  if (!group_) return;
  const std::shared_ptr<JoinGroup> group = group_;
  const auto cores = cores_;
  // The models are detached before the first exchange, so whatever is thrown below leaves none of
  // them within a Join that is over.
  leave();
  // The exchange in which no rank is active is the last one on all ranks. Those for which it is
  // also the first one were through last, and have the model that holds.
  bool came_last = true;
  for (JoinedPass pass = group->follow(); pass.active > 0; pass = group->follow()) {
    came_last = false;
    cores.at(pass.model)->shadow(pass);
  }
  const Rank last = group->agree_on_last(came_last);
  for (const auto& core : cores) core->sync_from(last);
}

}  // namespace longhaul
