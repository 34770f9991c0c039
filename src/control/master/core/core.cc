#include "control/master/core/core.h"

#include <algorithm>
#include <future>
#include <type_traits>
#include <utility>

#include "base/log.h"
#include "control/convert/compression.h"
#include "control/convert/worker_proto.h"
#include "rpc/server_limits.h"

namespace longhaul {
namespace {

// How often time is looked at when nothing happens, and progress is published when nothing else is.
constexpr milliseconds kIdle{250};
// Tasks in a row, before time and watchers get their turn.
constexpr int kMaxBatch = 1000;
constexpr milliseconds kProgressInterval{200};
constexpr size_t kMostSaid = size_t{64} << 10;  // of a task's stderr
constexpr milliseconds kBetweenTrims{30'000};
// Being late by more than this, the master slept: the silence of workers was its own.
constexpr milliseconds kAsleep{1000};

// What this would begin at a worker has ended before it could be told, because the disk took
// nothing.
bool is_over(const ClusterState& state, const ToWorker& message) {
  const auto job_of = [](const auto& one) -> const JobId* {
    using One = std::decay_t<decltype(one)>;
    constexpr bool kBegins = std::is_same_v<One, PrepareMessage> ||
                             std::is_same_v<One, LaunchMessage> ||
                             std::is_same_v<One, GrantTasksMessage>;
    if constexpr (kBegins) return &one.launch.job;
    return nullptr;
  };
  const JobId* job = std::visit(job_of, message);
  if (job == nullptr) return false;
  const JobStatus* status = state.status(*job);
  return status == nullptr || has_ended(status->state);
}

}  // namespace

Core::Core(const Options& options, const Clock& clock, std::string incarnation,
           std::unique_ptr<Database> database, MasterMemory memory)
    : options_(options),
      clock_(clock),
      incarnation_(std::move(incarnation)),
      journal_(options.keep_events, std::move(memory.events)),
      state_(options.cluster),
      output_(options.output, state_),
      inputs_(options.state_folder, memory.cluster.boot),
      results_(options.state_folder),
      gate_(
          clock, std::move(database), &journal_, options.keep_events,
          [this](std::function<void()> work) {
            return post([work = std::move(work)](ClusterState&, Now) { work(); });
          },
          [this](const CommitGate::Held& held) { carry_out(held); }),
      published_at_(clock.now()),
      trimmed_at_(clock.now()),
      reassured_at_(clock.now()) {
  gate_.happened(
      {EventKind::kMasterStarted, "", "", 0, std::nullopt,
       str_cat(
           "start ", memory.cluster.boot, " on this state, with ", memory.cluster.jobs.size(),
           " jobs and ", memory.cluster.workers.size(), " workers known",
           memory.cluster.new_life.empty() ? "" : "; a new life of it: ", memory.cluster.new_life,
           memory.unreadable.empty()
               ? ""
               : str_cat("; ", memory.unreadable.size(), " rows cannot be read"))});
  for (const std::string& row : memory.unreadable) {
    log(LogLevel::kError, "master", "cannot be read in the database: ", row);
  }
  inputs_.restore(memory.cluster.jobs, memory.input_sets);
  state_.restore(std::move(memory.cluster), now());
  if (memory.clock_shift.count() != 0) all_moments_changed();
  if (!options_.state_folder.empty()) sweep_files(memory.dropped);
  thread_ = Thread("lh-master", [this] { run(); });
}

Core::~Core() {
  close();
}

// What earlier masters have left in files; and opens what is read later.
void Core::sweep_files(const std::vector<uint64_t>& dropped) {
  for (const uint64_t job : dropped) {
    results_.job_forgotten(job);
    output_.remove_log(job_id(job));
  }
  gate_.batch().of<DroppedTable>().swept = dropped;
  const Result<size_t> unknown = results_.sweep(state_);
  if (!unknown) {
    start_failure_ = unknown.failure();
  } else if (*unknown > 0) {
    log(LogLevel::kWarning, "master", *unknown, " files in ", options_.state_folder,
        "/results are results of which the database knows nothing; they are left there");
  }
  if (const Result<void> opened = inputs_.open(); !opened) {
    log(LogLevel::kWarning, "master", "inputs: ", opened.failure().message, "; tried again later");
  }
}

// All moments that were kept have another number now.
void Core::all_moments_changed() {
  for (const JobStatus* job : state_.list(false)) gate_.row_changed({kJobRows, job->id}, state_);
  for (const NodeStatus& node : state_.nodes()) {
    gate_.row_changed({kWorkerRows, node.worker.id}, state_);
  }
}

void Core::close() {
  tasks_.close();
  thread_.join();
  output_.close();
  results_.close();
  gate_.close();
}

Now Core::now() const {
  return {clock_.now(), static_cast<uint64_t>(clock_.unix_ms())};
}

Instant Core::next_wakeup() const {
  Instant next = clock_.now() + kIdle;
  if (const auto at = state_.next_wakeup()) next = std::min(next, *at);
  if (trouble_at_)
    next = std::min(next, reassured_at_ + options_.cluster.workers.heartbeat_interval);
  if (writes_later_) return std::min(next, gate_.worth_writing_at());
  if (!changed_.empty()) next = std::min(next, published_at_ + kProgressInterval);
  return next;
}

void Core::run() {
  while (true) {
    const Instant deadline = next_wakeup();
    std::optional<Task> task = tasks_.pop_until(deadline);
    const Now woken = now();
    if (woken.instant > deadline + kAsleep) {
      state_.forgive_silence(std::chrono::duration_cast<milliseconds>(woken.instant - deadline));
    }
    const bool closed = !task && tasks_.closed();
    if (closed) task = tasks_.pop();
    if (closed && !task) break;
    // Workers' words before the clock's verdict: a heartbeat that lies in the queue counts.
    for (int done = 0; task; ++done) {
      (*task)(state_, woken);
      collect();
      task = done < kMaxBatch ? tasks_.pop_until(woken.instant) : std::nullopt;
    }
    state_.tick(woken);
    collect();
    bear_trouble(woken);
    input_relay_.tick(woken.instant);
    writes_later_ = !tasks_.closed() && gate_.worth_writing_at() > clock_.now();
    if (!writes_later_) {
      publish(clock_.now() >= published_at_ + kProgressInterval);
      seal();
    }
    if (clock_.now() >= trimmed_at_ + kBetweenTrims) {
      trimmed_at_ = clock_.now();
      output_.do_later(give_free_memory_back);
    }
    if (when_stopped_ && !state_.has_active_jobs()) std::exchange(when_stopped_, nullptr)();
  }
  input_relay_.close();
}

std::optional<Failure> Core::trouble() const {
  if (output_.disk_full()) {
    return Failure{ErrorKind::kExhausted, str_cat(output_.folder(), ": the disk is full")};
  }
  return gate_.trouble();
}

// Nobody is to take our silence for death, or to be blamed for what he was never told; and who can
// do something else meanwhile hears of it.
void Core::bear_trouble(Now now) {
  if (!trouble()) {
    trouble_at_.reset();
    return;
  }
  gate_.tell_impatient();
  if (trouble_at_) {
    state_.postpone(std::chrono::duration_cast<milliseconds>(now.instant - *trouble_at_));
  }
  trouble_at_ = now.instant;
  if (now.instant < reassured_at_ + options_.cluster.workers.heartbeat_interval) return;
  reassured_at_ = now.instant;
  // Of a worker that waits for the answer to its registration its stream is all there is to hear.
  sessions_.reassure([&](SessionId session) { state_.sign_of_life(session, now); });
}

// --- What has happened, and what follows

void Core::collect() {
  for (Effect& effect : state_.take_effects()) {
    if (const auto* note = std::get_if<NoteEffect>(&effect)) {
      log(LogLevel::kInfo, "master", note->text);
    } else if (auto* journal = std::get_if<JournalEffect>(&effect)) {
      gate_.happened(std::move(journal->event));
    } else if (const auto* changed = std::get_if<JobChangedEffect>(&effect)) {
      changed_[changed->job] |= changed->urgent;
    } else if (auto* row = std::get_if<RowChangedEffect>(&effect)) {
      gate_.row_changed(std::move(*row), state_);
    } else if (const auto* send = std::get_if<SendEffect>(&effect);
               send != nullptr && std::holds_alternative<HeartbeatMessage>(send->message)) {
      // The answer waits while the disk takes nothing, because it says that all is taken.
      gate_.hold_beat(send->session, std::get<HeartbeatMessage>(send->message).sequence);
    } else {
      gate_.hold(std::move(effect));
    }
  }
}

// A batch waits for output that came before and found the disk full.
void Core::seal() {
  const bool written = output_.write();
  const bool ends = gate_.gave_up() || tasks_.closed();
  if ((written || ends) && gate_.may_seal(ends)) gate_.seal(state_, written);
}

void Core::carry_out(const CommitGate::Held& held) {
  answer_tasks(held);
  for (const auto& [session, sequences] : held.beats) {
    for (const uint64_t sequence : sequences) {
      perform({session, HeartbeatMessage{sequence}}, nullptr);
    }
  }
  for (const auto& [job, status] : held.statuses) {
    // Or it was forgotten meanwhile.
    if (state_.status(job) != nullptr) feed(job)->publish(status.status, status.ended);
  }
}

// A worker that ends many tasks hears of all of them in one message, and of those that follow them
// in the same one.
void Core::answer_tasks(const CommitGate::Held& held) {
  std::map<SessionId, v1::TaskAnswers> answers;
  const auto answers_in = [](const Effect& effect) -> const TaskAnswersMessage* {
    const auto* send = std::get_if<SendEffect>(&effect);
    return send == nullptr ? nullptr : std::get_if<TaskAnswersMessage>(&send->message);
  };
  for (const Effect& effect : held.effects) {
    if (const TaskAnswersMessage* some = answers_in(effect)) {
      add_answers(&answers[std::get<SendEffect>(effect).session], *some);
    }
  }
  for (const Effect& effect : held.effects) {
    if (answers_in(effect) != nullptr) continue;
    if (const auto* send = std::get_if<SendEffect>(&effect)) {
      perform(*send, &answers);
    } else if (const auto* close = std::get_if<CloseEffect>(&effect)) {
      sessions_.close(close->session, "this stream is over");
    } else if (const auto* forgotten = std::get_if<JobForgottenEffect>(&effect)) {
      forget_job(forgotten->job);
    }
  }
  for (auto& [session, rest] : answers) {
    OutgoingMessage message = Sessions::message();
    *(*message)->mutable_task_answers() = rest;
    sessions_.send(session, std::move(message));
  }
}

void Core::perform(const SendEffect& send, std::map<SessionId, v1::TaskAnswers>* answers) {
  if (!sessions_.has(send.session) || is_over(state_, send.message)) return;
  OutgoingMessage message = Sessions::message();
  fill(&**message, send.message, incarnation_);
  if ((*message)->has_grant_tasks()) {
    v1::GrantTasks* grant = (*message)->mutable_grant_tasks();
    fill_inputs(*grant);
    if (const auto found = answers->find(send.session); found != answers->end()) {
      *grant->mutable_answers() = found->second;
      answers->erase(found);
    }
  }
  sessions_.send(send.session, std::move(message));
}

void Core::forget_job(const JobId& job) {
  inputs_.forget(job);
  results_.job_forgotten(job_number(job));
  output_.forget(job);
  changed_.erase(job);
}

// Urgent changes at once, progress a few times a second.
void Core::publish(bool all) {
  bool ended_some = false;
  for (auto it = changed_.begin(); it != changed_.end();) {
    if (!it->second && !all) {
      ++it;
      continue;
    }
    const JobStatus* status = state_.status(it->first);
    if (status != nullptr) {
      gate_.hold_status(it->first, {to_proto(*status), has_ended(status->state)});
      if (has_ended(status->state)) {
        ended_some = true;
        results_.job_ended(job_number(it->first));
      }
    }
    it = changed_.erase(it);
  }
  if (all) published_at_ = clock_.now();
  if (output_.take_late() || ended_some) output_.trim_ended();
}

void Core::give_up_writing() {
  post([this](ClusterState&, Now) {
    if (trouble()) gate_.give_up();
  });
}

bool Core::stop_jobs(const std::string& reason, milliseconds limit) {
  auto stopped = std::make_shared<std::promise<void>>();
  std::future<void> done = stopped->get_future();
  const bool posted = post([this, reason, stopped](ClusterState& state, Now now) {
    stopping_ = true;
    state.stop_all(reason, now);
    when_stopped_ = [stopped] { stopped->set_value(); };
  });
  return posted && done.wait_for(limit) == std::future_status::ready;
}

void Core::close_sessions() {
  post([this](ClusterState&, Now) { sessions_.close_all("the master is shutting down"); });
}

void Core::remove_session(SessionId session) {
  sessions_.remove(session);
  gate_.forget(session);
}

// --- Tasks, their inputs and their results

// A task whose input cannot be had is left out, and the state hears of it.
void Core::fill_inputs(v1::GrantTasks& grant) {
  const LaunchId launch{grant.job_id(), grant.generation(), grant.life()};
  const auto fill = [&](v1::TaskGrant& task) {
    Result<std::string> input = inputs_.input(grant.job_id(), task.lease().task());
    if (input) {
      task.set_input(std::move(*input));
    } else {
      state_.input_missing(launch, from_proto(task.lease()), input.failure(), now());
    }
    return input.ok();
  };
  for (v1::TaskBatch& batch : *grant.mutable_batches()) {
    auto& tasks = *batch.mutable_tasks();
    for (int i = 0; i < tasks.size();) {
      if (fill(tasks[i])) {
        ++i;
      } else {
        tasks.DeleteSubrange(i, 1);
      }
    }
  }
}

// Results become durable in the transaction that makes their tasks done; a large one is on disk by
// then, and the row names it.
void Core::tasks_ended(ClusterState& state, SessionId session, v1::TasksEnded* ended, Now now) {
  const auto is_current = [&](const TaskEndedMessage& message) {
    const TaskTable* tasks = state.tasks(message.launch);
    return tasks != nullptr && tasks->standing(message.lease) == LeaseStanding::kCurrent;
  };
  std::vector<TaskEndedMessage> messages;
  std::vector<std::optional<ResultName>> names;  // of those whose leases are current
  messages.reserve(static_cast<size_t>(ended->ended_size()));
  names.reserve(messages.capacity());
  for (const v1::TaskEnded& one : ended->ended()) {
    TaskEndedMessage& message = messages.emplace_back(from_proto(one));
    std::optional<ResultName>& name = names.emplace_back();
    if (is_current(message)) name = ResultIntake::name_of(message.launch.job, message.lease);
    if (name && one.stored_bytes() > 0 && results_.whole(*name) != one.stored_bytes()) {
      message.refused = "its result was stored at the master, and is not there any more";
      message.host_fault = true;
    }
  }
  const std::vector<CommitOutcome> outcomes = state.tasks_ended(session, messages, now);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const std::optional<ResultName>& name = names[i];
    if (!name || is_current(messages[i])) continue;
    keep_said(messages[i], ended->ended(static_cast<int>(i)), now);
    const bool committed = outcomes[i] == CommitOutcome::kCommitted;
    results_.lease_ended(*name, committed);
    if (!committed) continue;
    v1::TaskEnded& one = *ended->mutable_ended(static_cast<int>(i));
    gate_.batch().of<ResultsTable>().results.push_back(
        {name->job, name->task, messages[i].lease.attempt, name->epoch, one.result_bytes(),
         std::move(*one.mutable_result()), one.stored_bytes()});
  }
}

void Core::keep_said(const TaskEndedMessage& message, const v1::TaskEnded& ended, Now now) {
  if (ended.said().empty() || state_.tasks(message.launch.job) == nullptr) return;
  std::string said;
  const auto take = [&said](std::string_view bytes) {
    said += bytes.substr(0, kMostSaid - said.size());
    return said.size() < kMostSaid;
  };
  // A worker that says it badly loses these lines alone; what was whole is kept.
  (void)Decompressor().add(ended.said(), take);
  v1::Output piece;
  piece.set_rank(message.lease.task);
  piece.set_task(state_.called(message.launch.job, message.lease.task));
  piece.set_generation(message.lease.attempt);
  piece.set_stream(v1::OUTPUT_STREAM_STDERR);
  piece.set_offset(ended.said_before());
  piece.set_data(std::move(said));
  piece.set_unix_ms(now.unix_ms);
  output_.append(message.launch.job, piece);
}

// --- What ranks print and read

void Core::output(ClusterState& state, SessionId session, const v1::RankOutput& output, Now now) {
  const LaunchId launch{output.job_id(), output.generation(), output.life()};
  if (state.rank_output(session, launch, static_cast<Rank>(output.output().rank()), now)) {
    v1::Output piece = output.output();
    piece.set_generation(launch.generation);
    piece.set_unix_ms(now.unix_ms);
    output_.append(launch.job, piece);
  }
  // Acknowledged in any case: what nobody wants must not stop the worker's window.
  if (!sessions_.has(session)) return;
  const uint64_t taken = sessions_.took_output(session, launch, output.output().data().size());
  if (!output_.some_waits()) return acknowledge_output(session, launch, taken);
  when_durable([this, session, launch, taken](bool durable) {
    if (durable) acknowledge_output(session, launch, taken);
  });
}

void Core::acknowledge_output(SessionId session, const LaunchId& launch, uint64_t bytes) {
  OutgoingMessage message = Sessions::message();
  v1::OutputAck* ack = (*message)->mutable_output_ack();
  ack->set_job_id(launch.job);
  ack->set_generation(launch.generation);
  ack->set_life(launch.life);
  ack->set_bytes(bytes);
  sessions_.send(session, std::move(message));
}

void Core::write_input(const JobId& job, const v1::WriteInputRequest& request,
                       InputRelay::Answer answer, Now now) {
  const ClusterState::WhereRank where = state_.where(job, 0);
  if (where.over || !where.session || !sessions_.has(*where.session)) {
    v1::WriteInputReply nothing;
    nothing.set_taken(request.offset());
    nothing.set_closed(where.over);
    return answer(nothing);
  }
  OutgoingMessage message = Sessions::message();
  v1::RankInput& input = *(*message)->mutable_rank_input();
  input.set_job_id(where.launch.job);
  input.set_generation(where.launch.generation);
  input.set_life(where.launch.life);
  input.set_offset(request.offset());
  input.set_data(request.data());
  input.set_end(request.end());
  input_relay_.wait(where.launch, request.offset(), std::move(answer), now.instant);
  sessions_.send(*where.session, std::move(message));
}

void Core::input_taken(const v1::InputTaken& taken) {
  input_relay_.taken({taken.job_id(), taken.generation(), taken.life()}, taken);
}

}  // namespace longhaul
