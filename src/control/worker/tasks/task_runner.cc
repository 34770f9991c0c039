#include "control/worker/tasks/task_runner.h"

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/random_id.h"
#include "control/convert/compression.h"
#include "control/convert/worker_proto.h"
#include "control/worker/host/host_resources.h"
#include "control/worker/output/spool_reader.h"
#include "control/worker/process/exit_report.h"
#include "control/worker/process/program_check.h"
#include "control/worker/process/rank_environment.h"
#include "control/worker/tasks/result_source.h"
#include "longhaul/agent/client/agent_client.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

constexpr int kStdout = 0;
constexpr int kStderr = 1;
// Ends of tasks that share a message: it goes when it has this size, far below the 64 MiB that gRPC
// takes, or when the first of them has waited for kEndsDelay.
constexpr size_t kEndsBytes = size_t{1} << 20;
constexpr milliseconds kEndsDelay{50};
// Of a warm process: it goes into one message.
constexpr uint64_t kLongestAnswer = uint64_t{1} << 20;
// How long the runner waits before it tries again what this host had no room for.
constexpr milliseconds kTryAgain{200};

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
}

// `end`: how much it wrote to stderr in all; `tail`: the last of that.
void add_said(const std::string& tail, uint64_t end, v1::TaskEnded* ended) {
  if (tail.empty()) return;
  ended->set_said(compress(tail));
  ended->set_said_before(end - std::min<uint64_t>(end, tail.size()));
}

}  // namespace

TaskRunner::TaskRunner(EventLoop& loop, TaskSite site, Send send, std::function<void()> progressed)
    : loop_(loop),
      site_(std::move(site)),
      send_(std::move(send)),
      progressed_(std::move(progressed)),
      warm_(
          loop, [this](LeaseEpoch epoch, const WarmEnd& end) { warm_ended(epoch, end); },
          [this] { progressed_(); }) {
  site_.remover->remove(site_.folder);
}

TaskRunner::~TaskRunner() {
  *alive_ = false;
  loop_.cancel(ends_timer_);
  for (const auto& [epoch, running] : running_) loop_.cancel(running->kill_timer);
  // The uploader's thread reads from the folders in uploading_ until it has been joined.
  running_.clear();
  uploader_.reset();
  uploading_.clear();
  site_.remover->remove(site_.folder);
}

std::string TaskRunner::folder_of(LeaseEpoch epoch) const {
  return str_cat(site_.folder, "/", epoch);
}

void TaskRunner::grant(const v1::GrantTasks& grant) {
  const auto job = std::make_shared<const Job>(
      Job{{grant.job_id(), grant.generation(), grant.life()}, grant.spec()});
  for (const v1::TaskBatch& batch : grant.batches()) {
    if (batch.tasks().empty()) continue;
    const LeaseEpoch id = batch.tasks(0).lease().epoch();
    const std::vector<int> gpus(batch.gpus().begin(), batch.gpus().end());
    // A batch that has begun takes its next task by itself. A grant that is sent again after a
    // reconnect brings leases that are known, and changes nothing.
    const bool has_begun = batches_.contains(id);
    for (const v1::TaskGrant& task : batch.tasks()) {
      const LeaseEpoch epoch = task.lease().epoch();
      const bool fresh =
          tasks_.try_emplace(epoch, Task{job, task.lease(), task.input(), id, gpus, std::nullopt})
              .second;
      if (fresh) batches_[id].push_back(epoch);
    }
    if (!has_begun) next_of(id);
  }
}

void TaskRunner::next_of(LeaseEpoch batch) {
  loop_.in_own_turn([this, alive = alive_, batch] {
    if (*alive) start_next_of(batch);
  });
}

// Starts the next task of a batch that can be started.
void TaskRunner::start_next_of(LeaseEpoch batch) {
  const auto waiting = batches_.find(batch);
  if (waiting == batches_.end() || paused_) return;
  while (!waiting->second.empty()) {
    const LeaseEpoch epoch = waiting->second.front();
    waiting->second.pop_front();
    const Result<void> started = start(epoch, tasks_.at(epoch));
    if (started) return;
    if (started.failure().kind == ErrorKind::kExhausted) {
      return hold_back(epoch, started.failure().message);
    }
    ProcessEnd end;
    end.exit_code = cannot_start_code(started.failure());
    end.launch_error = started.failure().message;
    // Never "later": it has no process, and so no result that could not be read now.
    (void)finish(epoch, end);
  }
  batches_.erase(waiting);
}

// Nothing is wrong with the task: this host has no room for it now.
void TaskRunner::hold_back(LeaseEpoch epoch, const std::string& why) {
  const LeaseEpoch batch = tasks_.at(epoch).batch;
  if (std::exchange(last_hold_, why) != why) {
    log(LogLevel::kWarning, "worker", "job ", tasks_.at(epoch).job->launch.job, " task ",
        tasks_.at(epoch).lease.task(), ": cannot be started now, held back: ", why);
  }
  // Back to the front of its batch: the tasks of a batch begin in order.
  running_.erase(epoch);
  site_.remover->remove(folder_of(epoch));
  batches_[batch].push_front(epoch);
  loop_.after(kTryAgain, [this, alive = alive_, batch] {
    if (*alive) next_of(batch);
  });
}

Result<void> TaskRunner::start(LeaseEpoch epoch, Task& task) {
  std::error_code error;
  fs::create_directories(site_.folder, error);
  if (task.job->spec.array().warm()) return start_warm(epoch, task);
  Result<ProcessFolder> folder = ProcessFolder::create(folder_of(epoch), random_id());
  if (!folder) return folder.failure();
  // Should this fail further down, hold_back() or finish() removes the folder.
  auto running =
      std::make_unique<Running>(Running{std::move(*folder), nullptr, 0, site_.clock->now()});
  const Result<ProcessCommand> command = command_for(task, &running->folder);
  if (!command) return command.failure();
  ManagedProcess::Listener listener;
  // Nobody asks for the pid of a task, and what it prints is read when it has ended.
  listener.started = [](int64_t) {};
  listener.output = [] {};
  listener.lingers = [this, epoch](const ProcessEnd& end) { look_for_witness(epoch, end); };
  listener.ended = [this, epoch](const ProcessEnd& end) { process_ended(epoch, end); };
  running->process = std::make_unique<ManagedProcess>(loop_, running->folder, std::move(listener));
  ShimOptions shim;
  shim.program = site_.shim;
  shim.descriptor_limit = site_.descriptor_limit;
  shim.grace = milliseconds(task.job->spec.grace_ms());
  shim.terminal = task.job->spec.terminal();
  // What it prints may be its result, so the spool must hold all of it; a byte more shows that it
  // is above the cap.
  shim.spool_bytes = std::max(task.job->spec.array().max_result_bytes() + 1, shim.spool_bytes);
  const Result<void> started = running->process->start(shim, *command);
  if (!started) return started;
  running_[epoch] = std::move(running);
  return {};
}

Result<void> TaskRunner::start_warm(LeaseEpoch epoch, Task& task) {
  WarmOptions options;
  options.folder = site_.folder;
  options.remover = site_.remover;
  options.shim.program = site_.shim;
  options.shim.descriptor_limit = site_.descriptor_limit;
  options.shim.grace = milliseconds(task.job->spec.grace_ms());
  options.longest = std::min<uint64_t>(task.job->spec.array().max_result_bytes(), kLongestAnswer);
  task.given_at = site_.clock->now();
  // All tasks of a launch have one spec, so a process that was started for another one fits this
  // one too.
  return warm_.run({task.job->launch, task.gpus}, epoch, task.input, options,
                   [&] { return command_for(task, nullptr); });
}

void TaskRunner::warm_ended(LeaseEpoch epoch, const WarmEnd& end) {
  const auto found = tasks_.find(epoch);
  // The pool speaks of tasks that it was given, and those stay until their end was told.
  if (found == tasks_.end()) return;
  const Task& task = found->second;
  ProcessEnd process = end.end;
  if (site_.oom_watch != nullptr && end.pid != 0) {
    process.evidence.out_of_memory = out_of_memory_witness(*site_.oom_watch, process, end.pid);
  }
  v1::TaskEnded ended;
  ended.set_job_id(task.job->launch.job);
  ended.set_generation(task.job->launch.generation);
  ended.set_life(task.job->launch.life);
  *ended.mutable_lease() = task.lease;
  // Of a task that was answered `end.end` is the default, an exit with code 0: its process goes on.
  *ended.mutable_exit() = to_proto(exit_report(process, end.said, "", ""));
  add_said(end.said, end.said.size(), &ended);
  const auto ran = site_.clock->now() - task.given_at;
  ended.set_ran_ms(static_cast<uint64_t>(std::chrono::duration_cast<milliseconds>(ran).count()));
  if (end.answer) {
    ended.set_result(compress(*end.answer));
    ended.set_result_bytes(end.answer->size());
  } else {
    ended.set_refused(end.refused);
  }
  const LeaseEpoch batch = task.batch;
  tell(epoch, std::move(ended));
  next_of(batch);
}

Result<ProcessCommand> TaskRunner::command_for(const Task& task,
                                               const ProcessFolder* folder) const {
  const v1::JobSpec& spec = task.job->spec;
  ProcessCommand command;
  command.argv.assign(spec.command().begin(), spec.command().end());
  if (command.argv.empty()) return Failure{ErrorKind::kInvalid, "the command is empty"};
  if (folder != nullptr) {
    for (std::string& word : command.argv) replace_all(word, "{}", task.input);
  }
  Environment env = own_environment();
  for (const auto& [name, value] : spec.env()) env[name] = value;
  env["LONGHAUL_JOB_ID"] = task.job->launch.job;
  if (folder == nullptr) {
    // A warm process runs many tasks, so their numbers and inputs cannot be in its environment.
    env["LONGHAUL_WARM"] = "1";
  } else {
    // As its user calls it: an index is the task's input, too.
    env["LONGHAUL_TASK_ID"] =
        spec.array().indices().empty() ? std::to_string(task.lease.task()) : task.input;
    env["LONGHAUL_ATTEMPT"] = std::to_string(task.lease.attempt());
    env["LONGHAUL_INPUT"] = task.input;
    env["LONGHAUL_RESULT"] = ResultSource::path_in(*folder);
  }
  if (!task.gpus.empty()) grant_gpus(env, visible_gpus(site_.gpus, task.gpus));
  env.try_emplace("PYTHONFAULTHANDLER", "1");
  env.try_emplace("OMP_NUM_THREADS", std::to_string(std::max(1, site_.cores / site_.slots)));
  command.env = to_strings(env);
  // The worker's environment, or the job's, may hold a token. The process is to have one alone:
  // that by which it is found.
  std::erase_if(command.env, [](const std::string& one) {
    return one.starts_with(str_cat(AgentClient::kTokenVariable, "="));
  });
  if (folder != nullptr) command.env.push_back(folder->mark());
  command.directory = spec.working_directory();
  const Result<std::string> program =
      find_program(command.argv.front(), command.directory, search_path_of(env));
  if (!program) return program.failure();
  command.program = *program;
  return command;
}

// Posted, because the ManagedProcess calls this, and end_of() destroys it.
void TaskRunner::process_ended(LeaseEpoch epoch, const ProcessEnd& end) {
  loop_.post([this, alive = alive_, epoch, end] {
    if (!*alive) return;
    end_of(epoch, with_witness(epoch, end));
  });
}

void TaskRunner::end_of(LeaseEpoch epoch, const ProcessEnd& end) {
  const auto running = running_.find(epoch);
  if (running == running_.end()) return;
  if (end.no_room_now && !running->second->told_to_stop) return hold_back(epoch, end.launch_error);
  const LeaseEpoch batch = tasks_.at(epoch).batch;
  if (finish(epoch, end)) return next_of(batch);
  loop_.after(kTryAgain, [this, alive = alive_, epoch, end] {
    if (*alive) end_of(epoch, end);
  });
}

// Asked as soon as the first process has ended, even if others linger: the kernel's counters tell
// something only while they have just risen (OomWatch).
void TaskRunner::look_for_witness(LeaseEpoch epoch, const ProcessEnd& end) {
  const auto running = running_.find(epoch);
  if (site_.oom_watch == nullptr || running == running_.end()) return;
  Running& task = *running->second;
  if (task.out_of_memory) return;
  task.out_of_memory = out_of_memory_witness(*site_.oom_watch, end, task.folder.ledger().rank_pid);
}

ProcessEnd TaskRunner::with_witness(LeaseEpoch epoch, ProcessEnd end) {
  look_for_witness(epoch, end);
  const auto running = running_.find(epoch);
  if (running != running_.end())
    end.evidence.out_of_memory = running->second->out_of_memory.value_or("");
  return end;
}

// False: its result cannot be read now. Then nothing has changed, and the caller tries again.
bool TaskRunner::finish(LeaseEpoch epoch, const ProcessEnd& end) {
  const Task& task = tasks_.at(epoch);
  v1::TaskEnded ended;
  ended.set_job_id(task.job->launch.job);
  ended.set_generation(task.job->launch.generation);
  ended.set_life(task.job->launch.life);
  *ended.mutable_lease() = task.lease;
  *ended.mutable_exit() = to_proto(exit_report(end, "", "", ""));
  Added result = Added::kHere;
  std::optional<ProcessFolder> folder;
  if (const auto running = running_.find(epoch); running != running_.end()) {
    const ProcessFolder& ran_in = running->second->folder;
    SpoolReader said(ran_in, kStderr);
    const std::string tail = said.tail();
    *ended.mutable_exit() = to_proto(exit_report(end, tail, "", ""));
    add_said(tail, said.end(), &ended);
    const auto ran_for = site_.clock->now() - running->second->started_at;
    ended.set_ran_ms(
        static_cast<uint64_t>(std::chrono::duration_cast<milliseconds>(ran_for).count()));
    // Only a task that exited 0 by itself has a result: what another one left may be half of it.
    const bool well = end.exit_code == 0 && end.signal == 0 && end.launch_error.empty();
    if (well && !end.stopped_by_us) result = add_result(task, ran_in, &ended);
    if (result == Added::kLater) return false;
    if (!end.ended_too.empty()) {
      log(LogLevel::kWarning, "worker", "job ", ended.job_id(), " task ", ended.lease().task(),
          ": ", end.ended_too);
    }
    loop_.cancel(running->second->kill_timer);
    const std::unique_ptr<Running> ran = std::move(running_.extract(running).mapped());
    // The process refers to the folder, which may live on as an upload.
    ran->process.reset();
    folder = std::move(ran->folder);
  }
  if (result == Added::kToStore) {
    store_result(epoch, std::move(*folder), std::move(ended));
  } else {
    site_.remover->remove(folder_of(epoch));
    tell(epoch, std::move(ended));
  }
  return true;
}

TaskRunner::Added TaskRunner::add_result(const Task& task, const ProcessFolder& folder,
                                         v1::TaskEnded* ended) const {
  const uint64_t cap = task.job->spec.array().max_result_bytes();
  Result<ResultSource> source = ResultSource::open(folder);
  if (!source) {
    if (source.failure().kind == ErrorKind::kExhausted) return Added::kLater;
    ended->set_refused(source.failure().message);
    return Added::kHere;
  }
  const uint64_t bytes = source->size();
  if (bytes > cap) {
    ended->set_refused(str_cat("its result has ", format_bytes(bytes), ", more than the ",
                               format_bytes(cap), " of --max-result"));
    return Added::kHere;
  }
  // Small results travel in the message; a large one would hold up the heartbeats behind it.
  if (bytes > kPieceBytes) return Added::kToStore;
  const std::string result = source->read(0, bytes);
  if (!source->trouble().empty()) return Added::kLater;
  if (result.size() != bytes) {
    ended->set_refused(str_cat("only ", result.size(), " of ", bytes,
                               " bytes of its result could be kept: is the worker's disk full?"));
    // The task did its part: this host could not keep what it printed.
    ended->set_host_fault(true);
    return Added::kHere;
  }
  ended->set_result(compress(result));
  ended->set_result_bytes(bytes);
  return Added::kHere;
}

void TaskRunner::store_result(LeaseEpoch epoch, ProcessFolder folder, v1::TaskEnded ended) {
  if (!uploader_)
    uploader_ = std::make_unique<ResultUploader>(loop_, site_.master, site_.credentials);
  v1::ResultHeader header;
  header.set_job_id(ended.job_id());
  header.set_generation(ended.generation());
  header.set_life(ended.life());
  *header.mutable_lease() = ended.lease();
  // The folder is kept for as long as the uploader's thread reads from it.
  const auto& kept = uploading_[epoch] =
      std::make_unique<Uploading>(Uploading{std::move(folder), std::move(ended)});
  const auto stored = [this, epoch](const Result<ResultUploader::Stored>& result) {
    result_stored(epoch, result);
  };
  Result<ResultSource> source = ResultSource::open(kept->folder);
  if (!source) return stored(source.failure());
  uploader_->upload(std::move(header), std::make_unique<ResultSource>(std::move(*source)), stored);
}

void TaskRunner::result_stored(LeaseEpoch epoch, const Result<ResultUploader::Stored>& stored) {
  v1::TaskEnded ended = std::move(uploading_.extract(epoch).mapped()->ended);
  if (stored) {
    ended.set_stored_bytes(stored->stored_bytes);
    ended.set_result_bytes(stored->result_bytes);
  } else if (stored.failure().kind == ErrorKind::kPeerLost) {
    // Cancelled: the task was stopped, and is not to blame.
    ended.mutable_exit()->set_stopped_by_us(true);
  } else {
    ended.set_refused(stored.failure().message);
    // kExhausted: this host could not open what it has kept.
    ended.set_host_fault(stored.failure().kind == ErrorKind::kUnavailable ||
                         stored.failure().kind == ErrorKind::kExhausted);
  }
  site_.remover->remove(folder_of(epoch));
  tell(epoch, std::move(ended));
}

void TaskRunner::tell(LeaseEpoch epoch, v1::TaskEnded ended) {
  *ends_.mutable_tasks_ended()->add_ended() = ended;
  Task& task = tasks_.at(epoch);
  task.ended = std::move(ended);
  // Small tasks of one batch share a message. It is sent with the last one of the batch, since the
  // slot gets no other work before the master has heard of that, or after kEndsDelay, or when it is
  // large.
  const auto waiting = batches_.find(task.batch);
  const bool last = waiting == batches_.end() || waiting->second.empty() || paused_;
  if (last || ends_.ByteSizeLong() > kEndsBytes) {
    send_ends();
  } else if (ends_timer_ == 0) {
    ends_timer_ = loop_.after(kEndsDelay, [this] { send_ends(); });
  }
  progressed_();
}

void TaskRunner::send_ends() {
  loop_.cancel(std::exchange(ends_timer_, 0));
  if (ends_.has_tasks_ended()) send_(std::exchange(ends_, {}));
}

void TaskRunner::answered(const v1::TaskAnswers& answers) {
  for (const LeaseEpoch epoch : answers.taken()) forget(epoch);
  for (const LeaseEpoch epoch : answers.stale()) forget(epoch);
}

void TaskRunner::forget(LeaseEpoch epoch) {
  const auto task = tasks_.find(epoch);
  if (task == tasks_.end()) return;
  if (!task->second.ended) {
    // The lease counts no more, but its task still runs or waits. It is stopped and its end is told
    // like any other; the answer to that, "stale" again, makes us forget it.
    stop_one(epoch, milliseconds(0));
    return;
  }
  tasks_.erase(task);
  progressed_();
}

void TaskRunner::stop(const LaunchId& launch, milliseconds grace) {
  stop_if([&](const Task& task) { return task.job->launch == launch; }, grace);
  warm_.end_idle(launch);
}

void TaskRunner::stop_all(milliseconds grace) {
  stop_if([](const Task&) { return true; }, grace);
  warm_.end_idle(std::nullopt);
}

void TaskRunner::stop_if(const std::function<bool(const Task&)>& wanted, milliseconds grace) {
  std::vector<LeaseEpoch> chosen;
  for (const auto& [epoch, task] : tasks_) {
    if (!task.ended && wanted(task)) chosen.push_back(epoch);
  }
  // Those that wait go first: else the end of a running one would start the next of its batch.
  std::stable_partition(chosen.begin(), chosen.end(), [this](LeaseEpoch epoch) {
    return !running_.contains(epoch) && !warm_.runs(epoch);
  });
  for (const LeaseEpoch epoch : chosen) stop_one(epoch, grace);
}

void TaskRunner::stop_one(LeaseEpoch epoch, milliseconds grace) {
  const auto running = running_.find(epoch);
  // Its process has ended; what is broken off is the way of its result.
  if (uploading_.contains(epoch)) return uploader_->cancel(epoch);
  if (warm_.runs(epoch)) return warm_.stop(epoch, grace);
  if (running == running_.end()) {
    const auto batch = batches_.find(tasks_.at(epoch).batch);
    if (batch != batches_.end()) std::erase(batch->second, epoch);
    ProcessEnd end;
    end.stopped_by_us = true;
    (void)finish(epoch, end);
    return;
  }
  running->second->told_to_stop = true;
  ManagedProcess& process = *running->second->process;
  loop_.cancel(running->second->kill_timer);
  if (grace.count() <= 0) return process.kill();
  process.terminate();
  // finish() cancels it before the process goes.
  running->second->kill_timer = loop_.after(grace, [&process] { process.kill(); });
}

bool TaskRunner::nothing_to_lose() const {
  return running_.empty() && uploading_.empty() && warm_.idle() &&
         std::none_of(tasks_.begin(), tasks_.end(),
                      [](const auto& entry) { return entry.second.ended.has_value(); });
}

void TaskRunner::add_inventory(v1::Register* message) const {
  // Also those that have ended and are not answered: the master would take a lease that is not
  // named for one that never arrived, and grant its task again.
  for (const auto& [epoch, task] : tasks_) {
    v1::HeldLease& held = *message->add_leases();
    held.set_job_id(task.job->launch.job);
    held.set_generation(task.job->launch.generation);
    held.set_life(task.job->launch.life);
    *held.mutable_lease() = task.lease;
    held.set_batch(task.batch);
    held.mutable_gpus()->Assign(task.gpus.begin(), task.gpus.end());
  }
}

void TaskRunner::resend() {
  if (uploader_) uploader_->try_again();
  // All ends that were not answered are in tasks_, also those that wait in ends_.
  ends_.Clear();
  for (const auto& [epoch, task] : tasks_) {
    if (!task.ended) continue;
    *ends_.mutable_tasks_ended()->add_ended() = *task.ended;
    if (ends_.ByteSizeLong() > kEndsBytes) send_ends();
  }
  send_ends();
}

}  // namespace longhaul
