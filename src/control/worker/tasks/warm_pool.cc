#include "control/worker/tasks/warm_pool.h"

#include <algorithm>
#include <utility>

#include "base/random_id.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// How long a process may wait for the next batch of its slot. Then its stdin is closed, and it has
// kPatience to end by itself before it is killed.
constexpr milliseconds kIdleTime{3'000};
constexpr milliseconds kPatience{5'000};

}  // namespace

WarmPool::~WarmPool() {
  *alive_ = false;
  for (const auto& [id, slot] : slots_) loop_.cancel(slot.timer);
}

void WarmPool::post(std::function<void()> task) {
  loop_.post([alive = alive_, task = std::move(task)] {
    if (*alive) task();
  });
}

Result<void> WarmPool::run(const WarmKey& key, LeaseEpoch task, const std::string& input,
                           const WarmOptions& options,
                           const std::function<Result<ProcessCommand>()>& command) {
  const Result<uint64_t> id = find_or_start(key, task, options, command);
  if (!id) return id.failure();
  Slot& slot = slots_.at(*id);
  loop_.cancel(std::exchange(slot.timer, 0));
  const Result<void> given = slot.process->give(input);
  if (!given) {
    end_slot(slot);
    return given;
  }
  slot.task = task;
  return {};
}

Result<uint64_t> WarmPool::find_or_start(const WarmKey& key, LeaseEpoch task,
                                         const WarmOptions& options,
                                         const std::function<Result<ProcessCommand>()>& command) {
  // Any that is free: processes of one job with the same GPUs are alike.
  for (const auto& [id, slot] : slots_) {
    if (slot.key == key && !slot.task && !slot.ending) return id;
  }
  Result<ProcessCommand> made = command();
  if (!made) return made.failure();
  const uint64_t id = ++last_id_;
  WarmProcess::Listener listener;
  // Posted: they are called from inside the process, and it may be destroyed in answer to them.
  listener.answered = [this, id](std::string answer) {
    post([this, id, answer = std::move(answer)]() mutable { answered(id, std::move(answer)); });
  };
  listener.ended = [this, id](const ProcessEnd& end, const std::string& broken) {
    post([this, id, end, broken] { ended(id, end, broken); });
  };
  Result<std::unique_ptr<WarmProcess>> process = WarmProcess::start(
      loop_, *options.remover, str_cat(options.folder, "/warm-", task), random_id(), options.shim,
      std::move(*made), options.longest, std::move(listener));
  if (!process) return process.failure();
  slots_[id] = Slot{key, std::move(*process), std::nullopt, 0, false};
  return id;
}

bool WarmPool::runs(LeaseEpoch task) const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [task](const auto& entry) { return entry.second.task == task; });
}

bool WarmPool::idle() const {
  return std::none_of(slots_.begin(), slots_.end(),
                      [](const auto& entry) { return entry.second.task.has_value(); });
}

void WarmPool::stop(LeaseEpoch task, milliseconds grace) {
  for (auto& [id, slot] : slots_) {
    if (slot.task != task) continue;
    loop_.cancel(std::exchange(slot.timer, 0));
    // Should it answer before it ends, it gets no other task.
    slot.ending = true;
    if (grace.count() <= 0) return slot.process->kill();
    slot.process->terminate();
    slot.timer = loop_.after(grace, [process = slot.process.get()] { process->kill(); });
    return;
  }
}

void WarmPool::end_idle(const std::optional<LaunchId>& launch) {
  for (auto& [id, slot] : slots_) {
    if (!slot.task && (!launch || slot.key.launch == *launch)) end_slot(slot);
  }
}

// Its stdin ends; one that does not end then is killed.
void WarmPool::end_slot(Slot& slot) {
  if (std::exchange(slot.ending, true)) return;
  loop_.cancel(slot.timer);
  slot.process->close_input();
  slot.timer = loop_.after(kPatience, [process = slot.process.get()] { process->kill(); });
}

void WarmPool::answered(uint64_t id, std::string answer) {
  const auto slot = slots_.find(id);
  if (slot == slots_.end() || !slot->second.task) return;
  WarmEnd end;
  end.answer = std::move(answer) + "\n";
  end.said = slot->second.process->said();
  finish(slot->second, end);
  // The next task may have taken it already.
  const auto still = slots_.find(id);
  if (still == slots_.end() || still->second.task || still->second.ending) return;
  still->second.timer = loop_.after(kIdleTime, [this, id] {
    const auto idle = slots_.find(id);
    if (idle == slots_.end() || idle->second.task) return;
    idle->second.timer = 0;
    end_slot(idle->second);
  });
}

void WarmPool::ended(uint64_t id, const ProcessEnd& end, const std::string& broken) {
  const auto found = slots_.find(id);
  if (found == slots_.end()) return;
  Slot slot = std::move(found->second);
  slots_.erase(found);
  loop_.cancel(slot.timer);
  // It ended between two tasks, as it was asked to: no task has failed.
  if (!slot.task) return gone_();
  WarmEnd told;
  told.end = end;
  told.refused = broken;
  const bool well = end.exit_code == 0 && end.signal == 0 && end.launch_error.empty();
  if (broken.empty() && well && !end.stopped_by_us) {
    told.refused = "its process ended without an answer to it";
  }
  told.said = slot.process->said();
  told.pid = slot.process->pid();
  finish(slot, told);
}

void WarmPool::finish(Slot& slot, const WarmEnd& end) {
  const LeaseEpoch task = *std::exchange(slot.task, std::nullopt);
  done_(task, end);
}

}  // namespace longhaul
