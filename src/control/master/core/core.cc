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

// How long the owner thread waits at most when nothing happens.
constexpr milliseconds kIdle{250};
// Tasks in a row, before time and watchers get their turn.
constexpr int kMaxBatch = 1000;
// Between two statuses of a job of which only the progress has changed.
constexpr milliseconds kProgressInterval{200};
constexpr size_t kMostSaid = size_t{64} << 10;  // of a task's stderr
constexpr milliseconds kBetweenTrims{30'000};
// When the owner thread wakes later than this, the master was stopped or its host slept. Then
// workers were not silent, but not heard, and their clocks are moved on by that time.
constexpr milliseconds kAsleep{1000};

// Messages are held until their rows are on disk. Whether the job that a held one would begin work
// for has ended meanwhile: then it is not sent.
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
      sessions_(owner_),
      output_(owner_, options.output, state_),
      inputs_(owner_, options.state_folder, memory.cluster.boot),
      results_(options.state_folder),
      gate_(
          owner_, clock, std::move(database), &journal_, options.keep_events,
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
  // The owner thread has not started: the state may be touched here.
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

// Moments are kept by the clock of the host, which begins anew with each boot. They have been
// shifted to the clock as it stands now, and their rows are written again together with the next
// mark of that clock: else they would be shifted twice, or not at all.
void Core::all_moments_changed() {
  for (const JobStatus* job : state_.list(false)) gate_.row_changed({kJobRows, job->id}, state_);
  for (const NodeStatus& node : state_.nodes()) {
    gate_.row_changed({kWorkerRows, node.worker.id}, state_);
  }
}

void Core::close() {
  // The owner thread goes first, because it gives work to all others. The database comes last and
  // writes what it has.
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
  // Then what has changed is published too, not earlier.
  if (writes_later_) return std::min(next, gate_.worth_writing_at());
  if (!changed_.empty()) next = std::min(next, published_at_ + kProgressInterval);
  return next;
}

void Core::run() {
  const Owner::Term term(owner_);
  while (true) {
    const Instant deadline = next_wakeup();
    std::optional<Task> task = tasks_.pop_until(deadline);
    const Now woken = now();
    if (woken.instant > deadline + kAsleep) {
      state_.forgive_silence(std::chrono::duration_cast<milliseconds>(woken.instant - deadline));
    }
    // What was posted before close() still runs; nothing more is taken then.
    const bool closed = !task && tasks_.closed();
    if (closed) task = tasks_.pop();
    if (closed && !task) break;
    // What workers have said comes before the verdict of the clock: a heartbeat that waits in the
    // queue counts, however late it is read.
    for (int done = 0; task; ++done) {
      (*task)(state_, woken);
      collect();
      task = done < kMaxBatch ? tasks_.pop_until(woken.instant) : std::nullopt;
    }
    state_.tick(woken);
    collect();
    bear_trouble(woken);
    input_relay_.tick(woken.instant);
    // For a large gang what happens within a few ms is written and published together.
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
  // What was to be written together with more is written now.
  if (writes_later_) {
    publish(true);
    seal();
  }
  // Calls that wait here for a worker's answer would else stay open for ever.
  input_relay_.close();
}

std::optional<Failure> Core::trouble() const {
  if (output_.disk_full()) {
    return Failure{ErrorKind::kExhausted, str_cat(output_.folder(), ": the disk is full")};
  }
  return gate_.trouble();
}

// While the disk takes nothing all answers are held. Workers hear that the master lives, so that
// they do not take its silence for its death. The clocks of prepare and of stopping stand still,
// because the workers were never told. And callers that would rather not wait are refused.
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
  // A worker that waits for the answer to its registration sends no heartbeats: its open stream
  // counts as a sign of life.
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
      // The answer says that all that the worker sent before is on disk, so it waits for that.
      gate_.hold_beat(send->session, std::get<HeartbeatMessage>(send->message).sequence);
    } else {
      gate_.hold(std::move(effect));
    }
  }
}

// Output that found the disk full holds up the rows that come after it, so that no end of a rank is
// durable before its last lines are.
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
  // A message to a stream that is gone is not lost: when its worker registers again, it is told
  // from the state what it is to do.
  if (!sessions_.has(send.session) || is_over(state_, send.message)) return;
  OutgoingMessage message = Sessions::message();
  fill(&**message, send.message, incarnation_);
  if ((*message)->has_grant_tasks()) {
    // Inputs are read only now that the grant leaves: while it is held for the disk they take no
    // memory.
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
        // Files of attempts that did not commit are nobody's from now on.
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
  // Shared, because the owner thread may fulfil it after `limit`, when this function has returned.
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
  owner_.assert_owner();
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
  owner_.assert_owner();
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
    // A row must never name a file that is not there, whatever the worker was told and says.
    if (name && one.stored_bytes() > 0 && results_.whole(*name) != one.stored_bytes()) {
      message.refused = "its result was stored at the master, and is not there any more";
      message.host_fault = true;
    }
  }
  // Standing is asked before and after: a lease that was current and is not any more has ended by
  // this message, committed or not. Repeated and stale ones change nothing here.
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
  // An error is ignored: where the frame is damaged these lines are lost, from the damage on, and
  // nothing else.
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
  owner_.assert_owner();
  const LaunchId launch{output.job_id(), output.generation(), output.life()};
  if (state.rank_output(session, launch, static_cast<Rank>(output.output().rank()), now)) {
    v1::Output piece = output.output();
    piece.set_generation(launch.generation);
    piece.set_unix_ms(now.unix_ms);
    output_.append(launch.job, piece);
  }
  // Acknowledged in any case: else output that nobody wants would fill the worker's window, and all
  // that comes behind it would wait. What the disk has not taken yet is acknowledged when it has.
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
  owner_.assert_owner();
  const ClusterState::WhereRank where = state_.where(job, 0);
  if (where.over || !where.session || !sessions_.has(*where.session)) {
    // There is nobody who could take it now: the client hears that nothing was taken, and asks
    // again.
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
  owner_.assert_owner();
  input_relay_.taken({taken.job_id(), taken.generation(), taken.life()}, taken);
}

}  // namespace longhaul
