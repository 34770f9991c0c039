#include "control/worker/gangs/launch.h"

#include <signal.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/random_id.h"
#include "cluster/jobs/job.h"
#include "control/convert/worker_proto.h"
#include "control/worker/gangs/input_ring.h"
#include "control/worker/host/host_resources.h"
#include "control/worker/process/exit_report.h"
#include "control/worker/process/marked_processes.h"
#include "control/worker/process/proc_stat.h"
#include "control/worker/process/program_check.h"
#include "control/worker/process/rank_environment.h"
#include "longhaul/agent/client/agent_client.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// A rank's exit waits for its output to be sent, so that no line of it is missed; but not longer
// than this when the master takes no output: who died is worth more than what it said.
constexpr milliseconds kOutputPatience{5'000};

// What there was no room for is tried again, 50 times in ten seconds: other processes of the host
// may end meanwhile. After that the rank has failed to start.
constexpr milliseconds kStartAgain{200};
constexpr int kStartTries = 50;

// A folder that cannot be opened now must not be taken for one that was never begun: its rank would
// be started twice. So this waits, at the worker's start, when nothing else depends on the loop.
Result<ProcessFolder> open_surely(const std::string& path) {
  Result<ProcessFolder> folder = ProcessFolder::open(path);
  for (int i = 0; i < kStartTries && !folder; ++i) {
    if (folder.failure().kind != ErrorKind::kExhausted) break;
    std::this_thread::sleep_for(kStartAgain);
    folder = ProcessFolder::open(path);
  }
  return folder;
}

std::string error_file_of(const ProcessFolder& folder) {
  return folder.path() + "/error.json";
}

}  // namespace

Launch::Launch(EventLoop& loop, const LaunchSite& site, v1::Launch request, Listener listener)
    : loop_(loop),
      site_(site),
      request_(std::move(request)),
      id_{request_.job_id(), request_.generation(), request_.life()},
      record_(site_.spool_folder, id_),
      listener_(std::move(listener)),
      ranks_(static_cast<size_t>(request_.ranks_size())) {
  for (size_t i = 0; i < ranks_.size(); ++i) {
    ranks_[i].rank = static_cast<Rank>(request_.ranks(static_cast<int>(i)));
    ranks_[i].local_rank = static_cast<int>(i);
  }
}

Launch::~Launch() {
  // They refer to this object.
  for (const EventLoop::TimerId timer : timers_) loop_.cancel(timer);
  loop_.cancel(kill_timer_);
  loop_.cancel(output_timer_);
  ranks_.clear();
  // After the processes, which use their folders to the end.
  site_.remover->remove(record_.folder());
}

void Launch::start() {
  const Result<void> recorded = record_.create(request_);
  for (RankHere& rank : ranks_) {
    if (recorded) {
      start(rank);
    } else {
      // Started or not, each rank has two streams: stdout_of() counts on their order.
      read_output_of(rank);
      cannot_start(rank, recorded.failure());
    }
  }
}

void Launch::start(RankHere& rank) {
  // In turns of their own, so that the start of many ranks keeps no heartbeat waiting.
  rank.token = random_id();
  read_output_of(rank);
  timers_.push_back(loop_.in_own_turn([this, &rank] { try_to_start(rank, kStartTries); }));
}

// What this host has no room for now may start a moment later.
void Launch::try_to_start(RankHere& rank, int tries_left) {
  if (stopping()) {
    ProcessEnd end;
    end.stopped_by_us = true;
    return rank_ended(rank, end);
  }
  const Result<void> started = spawn(rank);
  if (rank.folder) {
    output_.replace(stdout_of(rank), SpoolReader(*rank.folder, 0));
    output_.replace(stderr_of(rank), SpoolReader(*rank.folder, 1));
  }
  if (started) return;
  if (started.failure().kind != ErrorKind::kExhausted || tries_left == 0) {
    return cannot_start(rank, started.failure());
  }
  log(LogLevel::kWarning, "worker", "job ", id_.job, " rank ", rank.rank,
      ": cannot be started now, trying again: ", started.failure().message);
  // The readers go before the folder that they look into.
  output_.replace(stdout_of(rank), SpoolReader());
  output_.replace(stderr_of(rank), SpoolReader());
  rank.process.reset();
  rank.folder.reset();
  site_.remover->remove(record_.process_folder(rank.local_rank));
  timers_.push_back(
      loop_.after(kStartAgain, [this, &rank, tries_left] { try_to_start(rank, tries_left - 1); }));
}

Result<void> Launch::spawn(RankHere& rank) {
  Result<ProcessFolder> folder =
      ProcessFolder::create(record_.process_folder(rank.local_rank), rank.token);
  if (!folder) return folder.failure();
  rank.folder = std::move(*folder);
  const Result<ProcessCommand> command = command_for(rank);
  if (!command) return command.failure();
  if (has_input(rank)) {
    const Result<void> made = InputRing(*rank.folder).create();
    if (!made) return made.failure();
  }
  rank.process = std::make_unique<ManagedProcess>(loop_, *rank.folder, listener_for(rank));
  return rank.process->start(shim_options(rank), *command);
}

ShimOptions Launch::shim_options(const RankHere& rank) const {
  ShimOptions options = site_.shim;
  options.input = has_input(rank);
  options.grace = milliseconds(request_.spec().grace_ms());
  options.terminal = request_.spec().terminal();
  return options;
}

void Launch::adopt() {
  for (RankHere& rank : ranks_) adopt(rank);
  // The killed worker may have told the master all of this. It takes each event once, so telling it
  // again does no harm; leaving one out would lose it.
  for (v1::RankEvent& event : record_.events()) listener_.event(std::move(event));
}

void Launch::adopt(RankHere& rank) {
  Result<ProcessFolder> folder = open_surely(record_.process_folder(rank.local_rank));
  const bool begun = folder && folder->ledger().phase != RankPhase::kCreated;
  if (!begun) {
    // The worker was killed before the rank's shim had introduced itself in the ledger. The
    // folder's name becomes free. A shim that runs all the same has the token in its environment,
    // by which it is found and killed, with all that it may have started. Without a ledger there is
    // none: the ledger is written before the shim is started.
    site_.remover->remove(record_.process_folder(rank.local_rank));
    if (folder) kill_marked_processes(folder->mark());
    return start(rank);
  }
  rank.folder = std::move(*folder);
  rank.token = rank.folder->token();
  read_output_of(rank);
  rank.process = std::make_unique<ManagedProcess>(loop_, *rank.folder, listener_for(rank));
  const v1::JobSpec& spec = request_.spec();
  rank.process->adopt(spec.command().empty() ? "" : spec.command(0), spec.working_directory());
  // The killed worker may have written input and not told the shim to look.
  if (has_input(rank)) rank.process->input_given();
}

std::optional<v1::InputTaken> Launch::give_input(const v1::RankInput& input) {
  const auto rank = std::find_if(ranks_.begin(), ranks_.end(),
                                 [this](const RankHere& here) { return has_input(here); });
  if (rank == ranks_.end()) return std::nullopt;
  v1::InputTaken taken;
  taken.set_job_id(id_.job);
  taken.set_generation(id_.generation);
  taken.set_life(id_.life);
  taken.set_closed(rank->end.has_value());
  if (rank->end || !rank->folder || !rank->process) return taken;
  const InputRing ring(*rank->folder);
  const Result<void> given = ring.give(input.offset(), input.data(), input.end());
  if (!given) {
    log(LogLevel::kWarning, "worker", "job ", id_.job,
        " rank 0: its input waits: ", given.failure().message);
  }
  taken.set_taken(ring.given());
  taken.set_closed(ring.closed());
  rank->process->input_given();
  return taken;
}

void Launch::read_output_of(const RankHere& rank) {
  for (const int stream : {0, 1}) {
    output_.add(rank.folder ? SpoolReader(*rank.folder, stream) : SpoolReader());
  }
}

void Launch::cannot_start(RankHere& rank, const Failure& why) {
  ProcessEnd end;
  end.exit_code = cannot_start_code(why);
  end.launch_error = why.message;
  rank_ended(rank, end);
}

RankPlace Launch::place_of(const RankHere& rank) const {
  RankPlace place;
  place.job_id = id_.job;
  place.generation = id_.generation;
  place.rank = rank.rank;
  place.world_size = static_cast<int>(request_.spec().ranks());
  place.local_rank = rank.local_rank;
  place.local_world_size = static_cast<int>(ranks_.size());
  place.node_rank = static_cast<int>(request_.node_rank());
  place.node_count = static_cast<int>(std::max(request_.node_count(), request_.node_rank() + 1));
  place.restarts = static_cast<int>(request_.restarts());
  place.max_restarts = static_cast<int>(request_.spec().max_restarts());
  place.master_address = request_.master_addr();
  place.master_port = static_cast<int>(request_.master_port());
  place.host_address = site_.host_address;
  place.interface = site_.interface;
  place.agent_address = site_.agent_address;
  place.agent_token = rank.token;
  const int each = static_cast<int>(request_.spec().gpus_per_rank());
  if (each > 0 && request_.gpus_size() == each * request_.ranks_size()) {
    const auto first = request_.gpus().begin() + each * rank.local_rank;
    place.gpus = visible_gpus(site_.gpus, {first, first + each});
  }
  if (rank.folder) place.error_file = error_file_of(*rank.folder);
  return place;
}

Result<ProcessCommand> Launch::command_for(const RankHere& rank) const {
  const v1::JobSpec& spec = request_.spec();
  ProcessCommand command;
  command.argv.assign(spec.command().begin(), spec.command().end());
  if (command.argv.empty()) return Failure{ErrorKind::kInvalid, "the command is empty"};
  const Environment env =
      rank_environment(own_environment(), Environment(spec.env().begin(), spec.env().end()),
                       place_of(rank), site_.cores);
  command.env = to_strings(env);
  command.directory = spec.working_directory();
  const Result<std::string> program =
      find_program(command.argv.front(), command.directory, search_path_of(env));
  if (!program) return program.failure();
  command.program = *program;
  return command;
}

ManagedProcess::Listener Launch::listener_for(RankHere& rank) {
  ManagedProcess::Listener listener;
  listener.started = [this, &rank](int64_t pid) {
    v1::RankEvent event = event_of(rank.rank);
    event.mutable_spawned()->set_pid(pid);
    listener_.event(std::move(event));
  };
  listener.output = [this] { listener_.progressed(); };
  listener.lingers = [this, &rank](const ProcessEnd& end) { look_for_witness(rank, end); };
  listener.ended = [this, &rank](const ProcessEnd& end) { rank_ended(rank, end); };
  return listener;
}

// Asked as soon as the first process has ended, even if others linger: the kernel's counters tell
// something only while they have just risen (OomWatch).
void Launch::look_for_witness(RankHere& rank, const ProcessEnd& end) {
  if (rank.out_of_memory || site_.oom_watch == nullptr || !rank.folder) return;
  rank.out_of_memory = out_of_memory_witness(*site_.oom_watch, end, rank.folder->ledger().rank_pid);
}

void Launch::rank_ended(RankHere& rank, const ProcessEnd& end) {
  rank.end = end;
  look_for_witness(rank, end);
  rank.end->evidence.out_of_memory = rank.out_of_memory.value_or("");
  // The exit is held back until the output is sent, so that the log is complete when it comes.
  timers_.push_back(loop_.after(kOutputPatience, [this, &rank] {
    rank.output_overdue = true;
    listener_.progressed();
  }));
  log(LogLevel::kInfo, "worker", "job ", id_.job, " rank ", rank.rank, ": ended with code ",
      end.exit_code, end.launch_error.empty() ? "" : ": ", end.launch_error,
      end.stopped_by_us ? " (stopped)" : "", end.ended_too.empty() ? "" : " ", end.ended_too);
  listener_.rank_ended(rank.rank);
  // The ManagedProcess that calls this must not be destroyed before it returns. So the exit is only
  // announced here: the worker takes it in a later turn.
  listener_.progressed();
}

void Launch::stop(milliseconds grace, const std::string& reason) {
  const bool first = !stop_reason_;
  if (first) stop_reason_ = reason;
  const Instant kill_at = std::chrono::steady_clock::now() + grace;
  // Asked again, the ranks may only end sooner: a second, longer grace takes nothing back.
  if (!first && kill_at >= kill_at_) return;
  kill_at_ = kill_at;
  loop_.cancel(kill_timer_);
  if (grace.count() <= 0) return command_all(&ManagedProcess::kill);
  // SIGTERM once: many programs take a second one for "at once".
  if (first) command_all(&ManagedProcess::terminate);
  kill_timer_ = loop_.after(grace, [this] { command_all(&ManagedProcess::kill); });
}

void Launch::command_all(void (ManagedProcess::*command)()) {
  // A rank that has not been started yet ends in try_to_start(), which asks stopping().
  for (RankHere& rank : ranks_) {
    if (!rank.end && rank.process) (rank.process.get()->*command)();
  }
}

size_t Launch::running_count() const {
  return static_cast<size_t>(
      std::count_if(ranks_.begin(), ranks_.end(), [](const RankHere& rank) { return !rank.end; }));
}

std::optional<Rank> Launch::find_token(const std::string& token) const {
  for (const RankHere& rank : ranks_) {
    if (!rank.end && rank.token == token) return rank.rank;
  }
  return std::nullopt;
}

const Launch::RankHere& Launch::at(Rank rank) const {
  const auto found = std::find_if(ranks_.begin(), ranks_.end(),
                                  [rank](const RankHere& here) { return here.rank == rank; });
  const bool is_here = found != ranks_.end();
  LONGHAUL_CHECK(is_here);
  return *found;
}

v1::JoinReply Launch::placement(Rank rank) const {
  const RankPlace place = place_of(at(rank));
  v1::JoinReply reply;
  reply.set_job_id(place.job_id);
  reply.set_generation(place.generation);
  reply.set_rank(static_cast<uint32_t>(place.rank));
  reply.set_world_size(static_cast<uint32_t>(place.world_size));
  reply.set_local_rank(static_cast<uint32_t>(place.local_rank));
  reply.set_local_world_size(static_cast<uint32_t>(place.local_world_size));
  reply.set_host_address(place.host_address);
  return reply;
}

std::optional<v1::RankEvent> Launch::look_at(Rank rank) {
  for (RankHere& here : ranks_) {
    if (here.rank != rank || here.end || !here.folder) continue;
    // The rank itself says where it is, with its next report; its process state is known at once,
    // also of one that cannot report any more.
    here.stack_wanted = true;
    const std::optional<ProcStat> stat = read_proc_stat(here.folder->ledger().rank_pid);
    v1::RankEvent event = event_of(rank);
    event.mutable_look()->set_process_state(stat ? std::string(1, stat->state) : "");
    return event;
  }
  return std::nullopt;
}

uint64_t Launch::call_id(Rank rank, uint64_t number, uint64_t fresh) const {
  return at(rank).folder->call_id(number, fresh);  // a rank that asks has been started
}

std::optional<v1::RankOutput> Launch::next_output() {
  std::optional<OutputFlow::Chunk> chunk = output_.next();
  // No descriptor is left, say: nothing else would make the worker look again.
  if (!output_.trouble().empty()) look_again_at_output();
  if (!chunk) return std::nullopt;
  const RankHere& rank = ranks_[chunk->stream / 2];
  if (chunk->lost > 0) {
    log(LogLevel::kWarning, "worker", "job ", id_.job, " rank ", rank.rank, ": ",
        format_bytes(chunk->lost), " of its output are gone: its spool in ", record_.folder(),
        " was full (", format_bytes(site_.shim.spool_bytes),
        " a stream, or the disk), or something has removed files from it");
  }
  v1::RankOutput message;
  message.set_job_id(id_.job);
  message.set_generation(id_.generation);
  message.set_life(id_.life);
  v1::Output& output = *message.mutable_output();
  output.set_rank(static_cast<uint32_t>(rank.rank));
  output.set_stream(chunk->stream % 2 == 0 ? v1::OUTPUT_STREAM_STDOUT : v1::OUTPUT_STREAM_STDERR);
  output.set_offset(chunk->offset);
  output.set_data(std::move(chunk->data));
  return message;
}

void Launch::look_again_at_output() {
  if (output_timer_ != 0) return;
  log(LogLevel::kWarning, "worker", "job ", id_.job, ": output waits: ", output_.trouble());
  output_timer_ = loop_.after(kStartAgain, [this] {
    output_timer_ = 0;
    listener_.progressed();
  });
}

bool Launch::ready_to_tell(const RankHere& rank) const {
  if (!rank.end || rank.exit_taken) return false;
  const bool all_sent = output_.all_sent(stdout_of(rank)) && output_.all_sent(stderr_of(rank));
  // Sent, not acknowledged: the stream keeps order, so the exit arrives behind its output.
  return all_sent || rank.output_overdue;
}

std::vector<v1::RankEvent> Launch::take_exits() {
  std::vector<v1::RankEvent> events;
  for (RankHere& rank : ranks_) {
    if (!ready_to_tell(rank)) continue;
    rank.exit_taken = true;
    events.push_back(exit_event(rank));
  }
  return events;
}

void Launch::retell_exit(Rank rank) {
  at(rank).exit_taken = false;
}

bool Launch::exits_taken() const {
  return std::all_of(ranks_.begin(), ranks_.end(),
                     [](const RankHere& rank) { return rank.exit_taken; });
}

v1::RankEvent Launch::event_of(Rank rank) const {
  v1::RankEvent event;
  event.set_job_id(id_.job);
  event.set_generation(id_.generation);
  event.set_life(id_.life);
  event.set_rank(static_cast<uint32_t>(rank));
  return event;
}

v1::RankEvent Launch::exit_event(const RankHere& rank) {
  v1::RankEvent event = event_of(rank.rank);
  RankExit exit =
      exit_report(*rank.end, output_.tail(stderr_of(rank)), output_.tail(stdout_of(rank)),
                  rank.folder ? error_file_of(*rank.folder) : "");
  // Also a rank that died of SIGTERM before our command reached it: whatever stops a worker, such
  // as systemd, may signal its ranks directly.
  const bool by_sigterm = exit.signal == SIGTERM || exit.exit_code == 128 + SIGTERM;
  exit.preempted = preempted_ && (exit.stopped_by_us || by_sigterm);
  *event.mutable_exited() = to_proto(exit);
  return event;
}

}  // namespace longhaul
