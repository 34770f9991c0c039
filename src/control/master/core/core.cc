#include "control/master/core/core.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <type_traits>
#include <utility>

#include "base/log.h"
#include "control/convert/compression.h"
#include "control/convert/event_proto.h"
#include "control/convert/worker_proto.h"
#include "control/database/clock_mark.h"
#include "rpc/server_limits.h"

namespace longhaul {
namespace {

// How often time is looked at when nothing happens, and progress is published when nothing else is.
constexpr milliseconds kIdle{250};
// How much of the time that jobs have run may be lost with the master's host.
constexpr milliseconds kBetweenMarks{10'000};
// Tasks in a row, before time and watchers get their turn.
constexpr int kMaxBatch = 1000;
constexpr milliseconds kProgressInterval{200};
constexpr size_t kMostSaid = size_t{64} << 10;  // of a task's stderr
// The row and the status of a gang cost its number of ranks. What happens to a large one is written
// together, so that its cost grows with its ranks and not with their square.
constexpr size_t kLargeGang = 64;
constexpr std::chrono::microseconds kPauseForEachRank{10};
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
      database_(std::move(database)),
      journal_(options.keep_events, std::move(memory.events)),
      state_(options.cluster),
      input_reader_(options.state_folder),
      // Above those of any master before this one.
      last_input_set_(kFirstInputSet + (uint64_t{memory.cluster.boot} << 32)),
      results_(options.state_folder),
      published_at_(clock.now()),
      trimmed_at_(clock.now()),
      host_start_(this_start()),
      marked_at_(clock.now()),
      reassured_at_(clock.now()) {
  happened({EventKind::kMasterStarted, "", "", 0, std::nullopt,
            str_cat("start ", memory.cluster.boot, " on this state, with ",
                    memory.cluster.jobs.size(), " jobs and ", memory.cluster.workers.size(),
                    " workers known", memory.cluster.new_life.empty() ? "" : "; a new life of it: ",
                    memory.cluster.new_life,
                    memory.unreadable.empty()
                        ? ""
                        : str_cat("; ", memory.unreadable.size(), " rows cannot be read"))});
  for (const std::string& row : memory.unreadable) {
    log(LogLevel::kError, "master", "cannot be read in the database: ", row);
  }
  for (const JobRecord& job : memory.cluster.jobs) {
    if (!job.status.spec.array) continue;
    const auto set = memory.input_sets.find(job.number);
    // Those that came with the submission itself are rows of the job.
    const uint64_t number = set == memory.input_sets.end() ? job.number : set->second;
    inputs_.emplace(job.status.id, TaskInputs(*job.status.spec.array, number));
  }
  state_.restore(std::move(memory.cluster), now());
  if (memory.clock_shift.count() != 0) seal_all_moments();
  if (!options_.state_folder.empty()) sweep_files(memory.dropped);
  output_thread_ = Thread("lh-output", [this] {
    while (const auto write = long_writes_.pop()) (*write)();
  });
  thread_ = Thread("lh-master", [this] { run(); });
}

Core::~Core() {
  close();
}

// What earlier masters have left in files; and opens what is read later.
void Core::sweep_files(const std::vector<uint64_t>& dropped) {
  for (const uint64_t job : dropped) {
    results_.job_forgotten(job);
    OutputLog(log_path(str_cat("j", job))).remove();
  }
  batch_.of<DroppedTable>().swept = dropped;
  const Result<size_t> unknown = results_.sweep(state_);
  if (!unknown) {
    start_failure_ = unknown.failure();
  } else if (*unknown > 0) {
    log(LogLevel::kWarning, "master", *unknown, " files in ", options_.state_folder,
        "/results are results of which the database knows nothing; they are left there");
  }
  if (const Result<void> opened = input_reader_.open(); !opened) {
    log(LogLevel::kWarning, "master", "inputs: ", opened.failure().message, "; tried again later");
  }
}

// All moments that were kept have another number now.
void Core::seal_all_moments() {
  for (const JobStatus* job : state_.list(false)) row_changed({kJobRows, job->id});
  for (const NodeStatus& node : state_.nodes()) row_changed({kWorkerRows, node.worker.id});
}

std::string Core::log_path(const JobId& job) const {
  const std::string& folder = options_.output_folder;
  return folder.empty() ? "" : str_cat(folder, "/", job, ".log");
}

void Core::Held::add(Held later) {
  std::move(later.effects.begin(), later.effects.end(), std::back_inserter(effects));
  std::move(later.done.begin(), later.done.end(), std::back_inserter(done));
  for (auto& [job, status] : later.statuses) statuses[job] = std::move(status);
  for (auto& [session, sequences] : later.beats) {
    std::vector<uint64_t>& all = beats[session];
    all.insert(all.end(), sequences.begin(), sequences.end());
  }
}

void Core::Held::forget(SessionId session) {
  beats.erase(session);
  std::erase_if(effects, [session](const Effect& effect) {
    const auto* send = std::get_if<SendEffect>(&effect);
    return send != nullptr && send->session == session;
  });
}

void Core::close() {
  tasks_.close();
  thread_.join();
  long_writes_.close();
  output_thread_.join();
  results_.close();
  // Its last callbacks find the queue closed.
  database_.reset();
  for (const Held& held : std::exchange(in_flight_, {})) {
    const bool durable = durable_after_close_ > 0;
    if (durable) --durable_after_close_;
    carry_out(held, durable);
  }
}

Now Core::now() const {
  return {clock_.now(), static_cast<uint64_t>(clock_.unix_ms())};
}

Instant Core::next_wakeup() const {
  Instant next = clock_.now() + kIdle;
  if (const auto at = state_.next_wakeup()) next = std::min(next, *at);
  if (trouble_at_)
    next = std::min(next, reassured_at_ + options_.cluster.workers.heartbeat_interval);
  if (writes_later_) return std::min(next, worth_writing_at());
  if (!changed_.empty()) next = std::min(next, published_at_ + kProgressInterval);
  return next;
}

Instant Core::worth_writing_at() const {
  if (dirty_ranks_ <= kLargeGang) return sealed_at_;
  return sealed_at_ + dirty_ranks_ * kPauseForEachRank;
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
    writes_later_ = !tasks_.closed() && worth_writing_at() > clock_.now();
    if (!writes_later_) {
      publish(clock_.now() >= published_at_ + kProgressInterval);
      seal();
      sealed_at_ = clock_.now();
    }
    if (clock_.now() >= trimmed_at_ + kBetweenTrims) {
      trimmed_at_ = clock_.now();
      long_writes_.push(give_free_memory_back);
    }
    if (when_stopped_ && !state_.has_active_jobs()) std::exchange(when_stopped_, nullptr)();
  }
  input_relay_.close();
}

std::optional<Failure> Core::trouble() const {
  if (output_waits_) {
    return Failure{ErrorKind::kExhausted, str_cat(options_.output_folder, ": the disk is full")};
  }
  return database_ == nullptr ? std::nullopt : database_->trouble();
}

void Core::on_broken(const std::function<void(const Failure&)>& callback) {
  if (database_ != nullptr) database_->on_broken(callback);
}

void Core::when_durable(std::function<void(bool)> done) {
  held_.done.push_back({std::move(done), false});
}

void Core::when_durable_soon(std::function<void(bool)> done) {
  held_.done.push_back({std::move(done), true});
}

// Nobody is to take our silence for death, or to be blamed for what he was never told; and who can
// do something else meanwhile hears of it.
void Core::bear_trouble(Now now) {
  if (!trouble()) {
    trouble_at_.reset();
    return;
  }
  for (Held& held : in_flight_) tell_impatient(held);
  tell_impatient(held_);
  if (trouble_at_) {
    state_.postpone(std::chrono::duration_cast<milliseconds>(now.instant - *trouble_at_));
  }
  trouble_at_ = now.instant;
  if (now.instant >= reassured_at_ + options_.cluster.workers.heartbeat_interval) reassure(now);
}

void Core::tell_impatient(Held& held) {
  std::vector<std::function<void(bool)>> impatient;
  for (Held::Done& one : held.done) {
    if (one.soon) impatient.push_back(std::move(one.call));
  }
  if (impatient.empty()) return;
  std::erase_if(held.done, [](const Held::Done& one) { return one.soon; });
  for (const auto& call : impatient) call(false);
}

// A worker that waits for the answer to its registration sends no heartbeats meanwhile: its stream
// is all there is to hear of it.
void Core::reassure(Now now) {
  reassured_at_ = now.instant;
  for (const auto& [id, session] : sessions_) {
    if (!session.registered) state_.sign_of_life(id, now);
    auto alive = std::make_unique<OnArena<v1::MasterMessage>>();
    (*alive)->mutable_keep_alive();
    session.sink->send(std::move(alive));
  }
}

void Core::collect() {
  for (Effect& effect : state_.take_effects()) {
    if (const auto* note = std::get_if<NoteEffect>(&effect)) {
      log(LogLevel::kInfo, "master", note->text);
      continue;
    }
    if (auto* journal = std::get_if<JournalEffect>(&effect)) {
      happened(std::move(journal->event));
      continue;
    }
    if (const auto* changed = std::get_if<JobChangedEffect>(&effect)) {
      changed_[changed->job] |= changed->urgent;
      continue;
    }
    if (auto* row = std::get_if<RowChangedEffect>(&effect)) {
      row_changed(std::move(*row));
      continue;
    }
    if (const auto* send = std::get_if<SendEffect>(&effect);
        send != nullptr && std::holds_alternative<HeartbeatMessage>(send->message)) {
      // The answer waits while the disk takes nothing, because it says that all is taken.
      held_.beats[send->session].push_back(std::get<HeartbeatMessage>(send->message).sequence);
      continue;
    }
    held_.effects.push_back(std::move(effect));
  }
}

void Core::row_changed(RowChangedEffect row) {
  const JobStatus* status = row.noun == kJobRows ? state_.status(row.key) : nullptr;
  const size_t ranks = status == nullptr ? 0 : status->ranks.size();
  if (changed_rows_.insert(std::move(row)).second) dirty_ranks_ += ranks;
}

bool Core::write_output() {
  std::erase_if(unwritten_, [this](const JobId& job) {
    const auto found = feeds_.find(job);
    return found == feeds_.end() || found->second->write_log();
  });
  output_waits_ = !unwritten_.empty();
  return unwritten_.empty();
}

void Core::happened(ClusterEvent event) {
  event.number = journal_.next_number();
  event.unix_ms = now().unix_ms;
  new_events_.push_back(to_proto(event));
  // Older ones would be dropped as soon as they are written.
  if (new_events_.size() > 2 * options_.keep_events) {
    new_events_.erase(new_events_.begin(),
                      new_events_.end() - static_cast<std::ptrdiff_t>(options_.keep_events));
  }
}

void Core::seal_events() {
  if (new_events_.empty()) return;
  for (const v1::Event& event : new_events_) {
    batch_.of<EventsTable>().events[event.number()] = event.SerializeAsString();
  }
  batch_.of<EventsTable>().first_kept = journal_.first_kept(new_events_.back().number());
  when_durable([this, events = std::exchange(new_events_, {})](bool durable) {
    if (durable) journal_.publish(events);
  });
}

// With whatever is written, and now and then by itself, so that little is lost with the host.
void Core::seal_marks() {
  if (database_ == nullptr) return;
  const Instant at = clock_.now();
  const bool due = state_.counts_time() && at - marked_at_ >= kBetweenMarks;
  if (batch_.empty() && !due) return;
  marked_at_ = at;
  batch_.of<MetaTable>().marks[kHostStart] = host_start_;
  batch_.of<MetaTable>().marks[kHostMs] = to_ms(at);
}

void Core::seal() {
  const bool written = write_output();
  const bool ends = gave_up_ || tasks_.closed();
  if (!written && !ends) return;
  // What comes meanwhile makes one batch.
  if (!in_flight_.empty() && database_ != nullptr && database_->trouble() && !ends) return;
  seal_events();
  dirty_ranks_ = 0;
  for (const RowChangedEffect& row : std::exchange(changed_rows_, {})) {
    longhaul::collect(row, state_, &batch_);
  }
  seal_marks();
  DatabaseBatch batch = std::exchange(batch_, {});
  Held held = std::exchange(held_, {});
  if (database_ == nullptr || gave_up_ || (batch.empty() && in_flight_.empty())) {
    carry_out(held, written && (database_ == nullptr || batch.empty()));
  } else if (!batch.empty()) {
    in_flight_.push_back(std::move(held));
    database_->write(std::move(batch), [this] {
      if (!post([this](ClusterState&, Now) { durable(); })) ++durable_after_close_;
    });
  } else {
    // Nothing of its own to write, but it may tell of what is not on disk yet.
    in_flight_.back().add(std::move(held));
  }
}

void Core::durable() {
  if (in_flight_.empty()) return;  // given up on
  const Held held = std::move(in_flight_.front());
  in_flight_.pop_front();
  carry_out(held, true);
}

void Core::carry_out(const Held& held, bool durable) {
  if (durable) {
    answer_tasks(held);
    for (const auto& [id, sequences] : held.beats) {
      for (const uint64_t sequence : sequences) {
        perform(SendEffect{id, HeartbeatMessage{sequence}}, nullptr);
      }
    }
    for (const auto& [job, status] : held.statuses) {
      // Or it was forgotten meanwhile.
      if (state_.status(job) != nullptr) feed(job)->publish(status.status, status.ended);
    }
  }
  for (const Held::Done& done : held.done) done.call(durable);
}

// A worker that ends many tasks hears of all of them in one message, and of those that follow them
// in the same one.
void Core::answer_tasks(const Held& held) {
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
    if (answers_in(effect) == nullptr) perform(effect, &answers);
  }
  for (auto& [id, rest] : answers) {
    const auto session = sessions_.find(id);
    if (session == sessions_.end()) continue;
    auto message = std::make_unique<OnArena<v1::MasterMessage>>();
    *(*message)->mutable_task_answers() = rest;
    session->second.sink->send(std::move(message));
  }
}

void Core::give_up_writing() {
  post([this](ClusterState&, Now) {
    if (!trouble()) return;
    gave_up_ = true;
    for (const Held& held : std::exchange(in_flight_, {})) carry_out(held, false);
  });
}

void Core::perform(const Effect& effect, std::map<SessionId, v1::TaskAnswers>* answers) {
  if (const auto* send = std::get_if<SendEffect>(&effect)) {
    const auto session = sessions_.find(send->session);
    if (session == sessions_.end() || is_over(state_, send->message)) return;
    auto message = std::make_unique<OnArena<v1::MasterMessage>>();
    fill(&**message, send->message, incarnation_);
    session->second.registered |= (*message)->has_registered();
    if ((*message)->has_grant_tasks()) {
      v1::GrantTasks* grant = (*message)->mutable_grant_tasks();
      fill_inputs(*grant);
      if (const auto found = answers->find(send->session); found != answers->end()) {
        *grant->mutable_answers() = found->second;
        answers->erase(found);
      }
    }
    session->second.sink->send(std::move(message));
  } else if (const auto* close = std::get_if<CloseEffect>(&effect)) {
    const auto session = sessions_.find(close->session);
    if (session != sessions_.end()) session->second.sink->close("this stream is over", true);
  } else if (const auto* forgotten = std::get_if<JobForgottenEffect>(&effect)) {
    inputs_.erase(forgotten->job);
    results_.job_forgotten(job_number(forgotten->job));
    feed(forgotten->job)->remove_log();
    feeds_.erase(forgotten->job);
    changed_.erase(forgotten->job);
  }
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
      held_.statuses[it->first] = {to_proto(*status), has_ended(status->state)};
      if (has_ended(status->state)) {
        ended_some = true;
        results_.job_ended(job_number(it->first));
      }
    }
    it = changed_.erase(it);
  }
  if (all) published_at_ = clock_.now();
  if (std::exchange(late_output_, false) || ended_some) trim_ended_output();
}

// The output of ended jobs shares one budget; the oldest go first.
void Core::trim_ended_output() {
  std::vector<const JobStatus*> jobs = state_.list(true);
  size_t kept = 0;
  for (auto job = jobs.rbegin(); job != jobs.rend(); ++job) {
    if (!has_ended((*job)->state)) continue;
    const auto found = feeds_.find((*job)->id);
    if (found == feeds_.end()) continue;
    kept += found->second->output_bytes();
    if (kept > options_.output_bytes_of_ended_jobs) found->second->clear_output();
  }
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
  post([this](ClusterState&, Now) {
    for (auto& [id, session] : sessions_) session.sink->close("the master is shutting down", true);
  });
}

SessionId Core::add_session(std::shared_ptr<SessionSink> session) {
  sessions_[++last_session_].sink = std::move(session);
  return last_session_;
}

void Core::remove_session(SessionId session) {
  sessions_.erase(session);
  held_.forget(session);
  for (Held& held : in_flight_) held.forget(session);
}

std::shared_ptr<JobFeed> Core::feed(const JobId& job) {
  std::shared_ptr<JobFeed>& feed = feeds_[job];
  if (feed != nullptr) return feed;
  feed = std::make_shared<JobFeed>(options_.output_bytes_per_job, log_path(job), &long_writes_);
  // Of a job of an earlier life: whoever looks sees at once where it stands.
  const JobStatus* status = state_.status(job);
  if (status != nullptr) feed->publish(to_proto(*status), has_ended(status->state));
  return feed;
}

void Core::add_inputs(const JobId& job, const ArrayJobSpec& array,
                      const std::vector<std::string>& inputs) {
  const uint64_t number = job_number(job);
  for (InputRow& row : TaskInputs::rows(number, inputs))
    batch_.of<InputsTable>().inputs.push_back(std::move(row));
  inputs_.emplace(job, TaskInputs(array, number));
}

void Core::add_stored_inputs(const JobId& job, const ArrayJobSpec& array, uint64_t set) {
  batch_.of<InputsTable>().sets[job_number(job)] = set;
  inputs_.emplace(job, TaskInputs(array, set));
}

std::optional<TaskInputs> Core::inputs_of(const JobId& job) const {
  const auto found = inputs_.find(job);
  if (found == inputs_.end()) return std::nullopt;
  return found->second;
}

// A task whose input cannot be had is left out, and the state hears of it.
void Core::fill_inputs(v1::GrantTasks& grant) {
  const auto inputs = inputs_.find(grant.job_id());
  const LaunchId launch{grant.job_id(), grant.generation(), grant.life()};
  const auto fill = [&](v1::TaskGrant& task) {
    Result<std::string> input =
        inputs == inputs_.end()
            ? Result<std::string>(Failure{ErrorKind::kCorrupt, "the job has no inputs"})
            : inputs->second.input(task.lease().task(), input_reader_);
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
    batch_.of<ResultsTable>().results.push_back(
        {name->job, name->task, messages[i].lease.attempt, name->epoch, one.result_bytes(),
         std::move(*one.mutable_result()), one.stored_bytes()});
  }
}

void Core::output(ClusterState& state, SessionId session, const v1::RankOutput& output, Now now) {
  const LaunchId launch{output.job_id(), output.generation(), output.life()};
  if (state.rank_output(session, launch, static_cast<Rank>(output.output().rank()), now)) {
    v1::Output piece = output.output();
    piece.set_generation(launch.generation);
    piece.set_unix_ms(now.unix_ms);
    keep_output(launch.job, piece);
  }
  // Acknowledged in any case: what nobody wants must not stop the worker's window.
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  uint64_t& taken = found->second.output_bytes[launch];
  taken += output.output().data().size();
  if (unwritten_.empty()) return acknowledge_output(session, launch, taken);
  when_durable([this, session, launch, taken](bool durable) {
    if (durable) acknowledge_output(session, launch, taken);
  });
}

void Core::keep_output(const JobId& job, const v1::Output& piece) {
  const std::shared_ptr<JobFeed> kept = feed(job);
  kept->append(piece);
  if (!kept->write_log()) unwritten_.insert(job);
  if (kept->ended()) late_output_ = true;
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
  keep_output(message.launch.job, piece);
}

void Core::write_input(const JobId& job, const v1::WriteInputRequest& request,
                       InputRelay::Answer answer, Now now) {
  const ClusterState::WhereRank where = state_.where(job, 0);
  const auto session = where.session ? sessions_.find(*where.session) : sessions_.end();
  if (where.over || session == sessions_.end()) {
    v1::WriteInputReply nothing;
    nothing.set_taken(request.offset());
    nothing.set_closed(where.over);
    return answer(nothing);
  }
  auto message = std::make_unique<OnArena<v1::MasterMessage>>();
  v1::RankInput& input = *(*message)->mutable_rank_input();
  input.set_job_id(where.launch.job);
  input.set_generation(where.launch.generation);
  input.set_life(where.launch.life);
  input.set_offset(request.offset());
  input.set_data(request.data());
  input.set_end(request.end());
  input_relay_.wait(where.launch, request.offset(), std::move(answer), now.instant);
  session->second.sink->send(std::move(message));
}

void Core::input_taken(const v1::InputTaken& taken) {
  input_relay_.taken({taken.job_id(), taken.generation(), taken.life()}, taken);
}

void Core::acknowledge_output(SessionId session, const LaunchId& launch, uint64_t bytes) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  auto message = std::make_unique<OnArena<v1::MasterMessage>>();
  v1::OutputAck* ack = (*message)->mutable_output_ack();
  ack->set_job_id(launch.job);
  ack->set_generation(launch.generation);
  ack->set_life(launch.life);
  ack->set_bytes(bytes);
  found->second.sink->send(std::move(message));
}

}  // namespace longhaul
