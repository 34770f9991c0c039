#include "control/worker/worker.h"

#include <unistd.h>

#include <filesystem>
#include <map>
#include <utility>
#include <vector>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/random_id.h"
#include "control/worker/agent/agent_server.h"
#include "control/worker/gangs/launch.h"
#include "control/worker/gangs/left_behind.h"
#include "control/worker/host/event_loop.h"
#include "control/worker/host/host_facts.h"
#include "control/worker/host/host_resources.h"
#include "control/worker/host/slot_budget.h"
#include "control/worker/host/state_folder.h"
#include "control/worker/output/last_lines.h"
#include "control/worker/process/program_check.h"
#include "control/worker/process/rank_environment.h"
#include "control/worker/session/master_link.h"
#include "control/worker/session/outbox.h"
#include "control/worker/session/store_relay.h"
#include "control/worker/session/worker_identity.h"
#include "control/worker/tasks/task_runner.h"
#include "longhaul/base/strings.h"
#include "longhaul/base/version.h"
#include "wire/host_and_port.h"
#include "wire/socket.h"

namespace longhaul {
namespace {

// How long a worker that ends waits for the master to take its last words.
// See OomWatch::tick().
constexpr milliseconds kBetweenOomTicks{1'000};
constexpr milliseconds kLastWordsLimit{3'000};
constexpr milliseconds kAdoptTimeout{60'000};

template <typename Message>
LaunchId launch_id_of(const Message& message) {
  return {message.job_id(), message.generation(), message.life()};
}

}  // namespace

class Worker::Impl final : public AgentBackend {
 public:
  explicit Impl(WorkerSettings settings)
      : settings_(std::move(settings)), loop_(std::make_shared<EventLoop>()) {}

  Result<void> run();
  void shutdown(bool force) {
    loop_->post([this, force] { begin_shutdown(force); });
  }
  void hand_over(std::function<void()> leave) {
    loop_->post([this, leave = std::move(leave)]() mutable { begin_hand_over(std::move(leave)); });
  }

  // AgentBackend: what the ranks ask. AgentServer asks knows() and calls one of these in the same
  // turn of the loop, so the token's launch is always found in them.
  bool knows(const std::string& token) const override { return find(token).launch != nullptr; }
  Result<v1::JoinReply> join(const std::string& token, const v1::JoinRequest& request) override;
  void store(const std::string& token, uint64_t number, v1::StoreRequest request,
             std::function<void(v1::StoreReply)> answer) override;
  v1::ReportReply report(const std::string& token, v1::Progress progress) override;
  void report_fault(const std::string& token, v1::Fault fault) override;
  void leave(const std::string& token) override;

 private:
  struct Caller {
    Launch* launch = nullptr;
    Rank rank = 0;
  };

  Result<void> prepare_site();
  std::unique_ptr<TaskRunner> make_task_runner();
  void begin_life(uint64_t life);
  Result<void> inherit(const StateFolder& folder);
  void adopt(v1::Launch request);
  Result<void> find_address();
  Caller find(const std::string& token) const;

  // The session with the master.
  void tick_oom_watch();
  MasterLink::Listener link_listener();
  v1::Register make_register() const;
  void on_registered(const v1::Registered& registered);
  void on_message(v1::MasterMessage message);
  void retell_exits();
  void on_lost();
  void on_away();
  void on_heartbeat_answered();

  // What the master asks.
  void prepare(const v1::Prepare& request);
  Result<int> try_prepare(const v1::Prepare& request) const;
  void launch(v1::Launch request);
  void stop_ranks(const v1::StopRanks& request);
  void look_at_rank(const v1::LookAtRank& request);
  void give_input(const v1::RankInput& input);

  Launch::Listener launch_listener(const LaunchId& id);
  Launch* find_launch(const LaunchId& id) const;
  void stop_launch(Launch& launch, milliseconds grace, const std::string& reason);
  void drop_launches(const google::protobuf::RepeatedPtrField<v1::Inventory>& unknown);
  void tell(v1::RankEvent event);
  void send_event(const v1::RankEvent& event);
  void pump();
  void pump_soon();
  void forget_ended();

  void begin_hand_over(std::function<void()> leave);
  void continue_hand_over();
  void begin_shutdown(bool force);
  void continue_shutdown();
  void end_session();

  const WorkerSettings settings_;
  // Sent with every registration: the same one again tells the master that the ranks are still
  // there.
  std::string incarnation_;
  // Shared with each MasterStream: gRPC may end its call after this object is gone.
  const std::shared_ptr<EventLoop> loop_;
  const SystemClock clock_;
  OomWatch oom_watch_;
  std::optional<FolderRemover> remover_;  // while it runs
  LaunchSite site_;
  int slots_ = 1;
  uint64_t memory_bytes_ = 0;
  std::string name_;
  Result<void> outcome_;

  std::unique_ptr<MasterLink> link_;
  std::unique_ptr<StoreRelay> relay_;
  std::unique_ptr<TaskRunner> tasks_;
  std::vector<std::unique_ptr<TaskRunner>> earlier_tasks_;  // of other lives, until they have ended
  std::string task_folder_;
  uint64_t life_ = 0;  // of the master's state; 0: no master was met yet
  // What the master must hear of ranks and has not confirmed. Progress and looks are not in it: the
  // next one says it better.
  Outbox outbox_;
  std::map<LaunchId, std::unique_ptr<Launch>> launches_;
  bool pump_posted_ = false;
  bool shutting_down_ = false;
  bool ending_session_ = false;
  std::function<void()> leave_;  // set while it makes room for a successor
  EventLoop::TimerId last_words_timer_ = 0;
};

Result<void> Worker::Impl::run() {
  // Declared first, so it is destroyed last: its lock keeps other workers out until the agent's
  // server has ended and the folders are gone.
  const Result<StateFolder> folder = StateFolder::open(settings_.state_folder);
  if (!folder) return folder.failure();
  site_.spool_folder = folder->spools();
  site_.agent_address = "unix:" + folder->socket();
  Result<void> prepared = prepare_site();
  if (!prepared) return prepared;

  // The relay sends nothing before the loop runs, and link_ is there by then.
  relay_ = std::make_unique<StoreRelay>(
      *loop_, settings_.master,
      [this](v1::WorkerMessage message) { link_->send(std::move(message)); });
  link_ = std::make_unique<MasterLink>(loop_, settings_.master, settings_.credentials,
                                       settings_.master_timeout, link_listener());
  task_folder_ = folder->path() + "/tasks";
  remover_.emplace(folder->path() + "/trash");
  site_.remover = &*remover_;
  // Tasks die with their worker: nobody needs what those of a killed one have left.
  remover_->remove(task_folder_);
  tasks_ = make_task_runner();
  AgentServer agent(*loop_, *this);
  Result<void> listening = agent.listen(folder->socket());
  if (!listening) return listening;
  // Before the loop answers anybody: a rank that outlived its worker may call at once, and a token
  // that is not known yet would be refused.
  Result<void> inherited = inherit(*folder);
  if (!inherited) {
    // Ranks may have called already. Once the loop has ended their calls are answered, which the
    // agent's server waits for.
    loop_->stop();
    loop_->run();
    return inherited;
  }
  tick_oom_watch();
  link_->start();
  loop_->run();
  // The loop takes no more tasks, so none of these is called back any more. The relay goes first:
  // it answers what still waits, so that the agent's server can end, which is destroyed on return.
  relay_.reset();
  tasks_.reset();
  earlier_tasks_.clear();
  std::error_code ignored;
  // Only if it is empty: each runner has given its own folder in it to the remover.
  std::filesystem::remove(task_folder_, ignored);
  launches_.clear();
  // Last, because runners and launches hand their folders to it when they go.
  remover_.reset();
  return outcome_;
}

Result<void> Worker::Impl::prepare_site() {
  name_ = settings_.name.empty() ? host_name() : settings_.name;
  site_.cores = usable_cores();
  site_.gpus = usable_gpus(own_environment(), settings_.gpus.value_or(-1));
  memory_bytes_ = settings_.memory_bytes > 0 ? settings_.memory_bytes : usable_memory();
  const int gpus = static_cast<int>(site_.gpus.size());
  site_.oom_watch = &oom_watch_;
  slots_ = settings_.slots > 0 ? settings_.slots : gpus > 0 ? gpus : site_.cores;
  // Ranks get the limit from before: some programs look at every descriptor below theirs.
  site_.shim.descriptor_limit = raise_descriptor_limit();
  const int fitting = slots_that_fit(descriptor_limit());
  if (fitting < slots_) {
    log(LogLevel::kWarning, "worker", name_, ": offers ", fitting, " of ", slots_,
        " slots: this process may have ", descriptor_limit(), " files open, and a slot takes ",
        kDescriptorsPerSlot, " (raise the hard limit: ulimit -Hn, LimitNOFILE=)");
    slots_ = fitting;
  }
  // No worker takes ranks over from a temporary folder: the next one that finds it kills them.
  const bool can_be_succeeded = settings_.adopt && !settings_.state_folder.empty();
  site_.shim.adopt_timeout =
      settings_.adopt_timeout.value_or(can_be_succeeded ? kAdoptTimeout : milliseconds(0));
  site_.shim.spool_bytes = settings_.spool_bytes;
  site_.shim.program = settings_.shim;
  if (site_.shim.program.empty()) {
    Result<std::string> shim = find_shim();
    if (!shim) return shim.failure();
    site_.shim.program = *shim;
  }
  return find_address();
}

// Of the life that the master's state has now. Epochs are given again in another life, so each life
// has a folder of its own, and what a runner of an earlier one still says is dropped.
std::unique_ptr<TaskRunner> Worker::Impl::make_task_runner() {
  return std::make_unique<TaskRunner>(
      *loop_,
      TaskSite{str_cat(task_folder_, "/", std::hex, life_), site_.shim.program, site_.cores, slots_,
               site_.gpus, settings_.master, settings_.credentials, &clock_, &oom_watch_,
               site_.shim.descriptor_limit, site_.remover},
      [this, life = life_](v1::WorkerMessage message) {
        if (life == life_) link_->send(std::move(message));
      },
      [this] { pump_soon(); });
}

// Leases are numbered within one life of the master's state. What still runs under a lease of
// another life is nobody's, and might be mistaken for a new lease with the same number. So it is
// ended, and nothing more of it is told.
void Worker::Impl::begin_life(uint64_t life) {
  if (life_ != 0) {
    log(LogLevel::kWarning, "worker", name_, ": the state of the master at ", settings_.master,
        " was wiped or put back from a copy: ending the tasks that it knows nothing of");
  }
  // From here on what the old runner sends is dropped, the ends that stop_all() brings among it.
  // The new runner takes its folder and its life from here.
  life_ = life;
  tasks_->stop_all(milliseconds(0));
  earlier_tasks_.push_back(std::exchange(tasks_, make_task_runner()));
}

// What a killed worker has left in the folder is taken over under its incarnation, so that the
// master sees it reconnect; or it is ended. A new incarnation is written down only when all ranks
// of the old one are gone: killed in between, this worker leaves its successor the identity that
// they belong to.
Result<void> Worker::Impl::inherit(const StateFolder& folder) {
  const WorkerIdentity& predecessor = folder.predecessor();
  // An identity of another boot of the host comes as an empty one: none of its ranks runs any more.
  const bool anew = !settings_.adopt || predecessor.incarnation.empty();
  Result<LeftBehind> left = find_left_behind(folder.spools());
  if (!left) return left.failure();
  // With a new incarnation nobody can take ranks over, so all of them end; else those alone that
  // cannot be taken over.
  const Result<int> cleaned = clean_up(anew ? LaunchRecord::find(folder.spools()) : left->unusable);
  if (!cleaned) return cleaned.failure();
  const int ended = *cleaned;
  if (ended > 0) {
    log(LogLevel::kWarning, "worker", name_, ": killed ", ended,
        " ranks that an earlier worker had left in ", folder.path());
  }
  if (anew) {
    incarnation_ = random_id();
    return keep_identity(folder.path(), incarnation_);
  }
  incarnation_ = predecessor.incarnation;
  if (Result<void> kept = keep_identity(folder.path(), incarnation_); !kept) return kept;
  for (v1::Launch& request : left->adoptable) adopt(std::move(request));
  return {};
}

void Worker::Impl::adopt(v1::Launch request) {
  const LaunchId id = launch_id_of(request);
  std::unique_ptr<Launch>& launch = launches_[id] =
      std::make_unique<Launch>(*loop_, site_, std::move(request), launch_listener(id));
  // The link is down until the loop runs: what is heard here waits in the outbox, and goes with the
  // first registration.
  launch->adopt();
  log(LogLevel::kInfo, "worker", name_, ": job ", id.job, " generation ", id.generation,
      ": taking over ", launch->rank_count(), " ranks from the worker that was here before");
}

Result<void> Worker::Impl::find_address() {
  const Result<HostAndPort> master = parse_host_and_port(settings_.master);
  if (!master || master->port == 0) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("master address '", settings_.master, "' is not HOST:PORT")};
  }
  site_.host_address = settings_.address;
  if (site_.host_address.empty()) {
    Result<std::string> address = local_address_towards(master->host, master->port);
    if (!address) return address.failure();
    site_.host_address = *address;
  }
  site_.interface = interface_of(site_.host_address);
  return {};
}

Worker::Impl::Caller Worker::Impl::find(const std::string& token) const {
  for (const auto& [id, launch] : launches_) {
    if (const std::optional<Rank> rank = launch->find_token(token)) return {launch.get(), *rank};
  }
  return {};
}

Result<v1::JoinReply> Worker::Impl::join(const std::string& token, const v1::JoinRequest&) {
  const Caller caller = find(token);
  // Its peers are being stopped too: nobody would meet it in the store.
  if (caller.launch->stopping()) {
    return Failure{ErrorKind::kPeerLost, caller.launch->stop_reason()};
  }
  v1::RankEvent event = caller.launch->event_of(caller.rank);
  // Written down before it is sent, here and below: should this worker be killed in between, the
  // next one says it again, and the master takes it once.
  event.mutable_joined();
  caller.launch->remember(event);
  tell(std::move(event));
  return caller.launch->placement(caller.rank);
}

void Worker::Impl::store(const std::string& token, uint64_t number, v1::StoreRequest request,
                         std::function<void(v1::StoreReply)> answer) {
  const Caller caller = find(token);
  if (caller.launch->stopping()) {
    return answer(to_store_reply({ErrorKind::kPeerLost, caller.launch->stop_reason()}));
  }
  // A rank that asks again, of this worker or of the one before, uses the number of its first try.
  // It gets the same id, and the master answers as before instead of doing it twice.
  const uint64_t fresh = relay_->next_id();
  const uint64_t id = number == 0 ? fresh : caller.launch->call_id(caller.rank, number, fresh);
  relay_->call(id, caller.launch->id(), static_cast<uint32_t>(caller.rank), std::move(request),
               std::move(answer));
}

v1::ReportReply Worker::Impl::report(const std::string& token, v1::Progress progress) {
  const Caller caller = find(token);
  v1::RankEvent event = caller.launch->event_of(caller.rank);
  *event.mutable_progress() = std::move(progress);
  // The next report says it better: one that does not get through is not kept.
  send_event(event);
  v1::ReportReply reply;
  reply.set_stop_requested(caller.launch->stopping());
  reply.set_stack_wanted(caller.launch->take_stack_wish(caller.rank));
  return reply;
}

void Worker::Impl::report_fault(const std::string& token, v1::Fault fault) {
  const Caller caller = find(token);
  v1::RankEvent event = caller.launch->event_of(caller.rank);
  *event.mutable_fault() = std::move(fault);
  caller.launch->remember(event);
  tell(std::move(event));
}

void Worker::Impl::leave(const std::string& token) {
  const Caller caller = find(token);
  v1::RankEvent event = caller.launch->event_of(caller.rank);
  event.mutable_left();
  caller.launch->remember(event);
  tell(std::move(event));
}

// Also while the master is away: a count that was taken long ago would make every process that is
// killed now look like one that was ended for its memory.
void Worker::Impl::tick_oom_watch() {
  oom_watch_.tick();
  loop_->after(kBetweenOomTicks, [this] { tick_oom_watch(); });
}

MasterLink::Listener Worker::Impl::link_listener() {
  MasterLink::Listener listener;
  listener.make_register = [this] { return make_register(); };
  listener.registered = [this](const v1::Registered& registered) { on_registered(registered); };
  listener.message = [this](v1::MasterMessage message) { on_message(std::move(message)); };
  listener.heartbeat_sent = [this] { outbox_.heartbeat_sent(); };
  listener.heartbeat_answered = [this] { on_heartbeat_answered(); };
  listener.lost = [this] { on_lost(); };
  listener.refused = [this](const std::string& reason) {
    // Ranks that were taken over may run all the same: they end first, then run() returns this.
    outcome_ = Failure{ErrorKind::kInvalid, str_cat("master at ", settings_.master,
                                                    " refused worker ", name_, ": ", reason)};
    begin_shutdown(false);
  };
  listener.away = [this] { on_away(); };
  return listener;
}

v1::Register Worker::Impl::make_register() const {
  v1::Register message;
  message.set_worker_id(name_);
  message.set_incarnation(incarnation_);
  message.set_host(host_name());
  message.set_address(site_.host_address);
  message.set_slots(static_cast<uint32_t>(slots_));
  message.set_pid(::getpid());
  message.set_version(version());
  message.set_gpus(static_cast<uint32_t>(site_.gpus.size()));
  message.set_memory_bytes(memory_bytes_);
  for (const auto& [id, launch] : launches_) {
    v1::Inventory& inventory = *message.add_inventory();
    inventory.set_job_id(id.job);
    inventory.set_generation(id.generation);
    inventory.set_life(id.life);
  }
  tasks_->add_inventory(&message);
  return message;
}

void Worker::Impl::on_registered(const v1::Registered& registered) {
  // The master may have added a suffix to the name.
  name_ = registered.worker_id();
  if (registered.life() != life_) begin_life(registered.life());
  log(LogLevel::kInfo, "worker", name_, ": registered with the master at ", settings_.master,
      ", slots: ", slots_, ", GPUs: ", site_.gpus.size(), ", memory: ", format_bytes(memory_bytes_),
      ", address: ", site_.host_address,
      launches_.empty() ? "" : str_cat(", launches still here: ", launches_.size()));
  // The order is part of the protocol. First goes what the master does not want, so that nothing of
  // it is said again. Exits go back to their launches, which give them out again behind the output
  // that is sent again. The outbox begins to count before MasterLink sends this stream's first
  // heartbeat, which it does after this call.
  drop_launches(registered.unknown());
  retell_exits();
  outbox_.restart();
  for (const v1::RankEvent& event : outbox_.events()) send_event(event);
  tasks_->resend();
  for (const auto& [id, launch] : launches_) launch->restart_output();
  relay_->connected();
  pump();
}

// An exit that the master may not have heard is taken back, so that it is told again behind the
// output that the master may not have either.
void Worker::Impl::retell_exits() {
  const auto is_exit = [](const v1::RankEvent& event) { return event.has_exited(); };
  for (const v1::RankEvent& event : outbox_.events()) {
    Launch* launch = find_launch(launch_id_of(event));
    if (launch != nullptr && is_exit(event)) launch->retell_exit(static_cast<Rank>(event.rank()));
  }
  outbox_.drop_if(is_exit);
}

// Stops the ranks of launches that the master has done with. Nothing more is told of them, but
// their output where the master still wants it.
void Worker::Impl::drop_launches(const google::protobuf::RepeatedPtrField<v1::Inventory>& unknown) {
  for (const v1::Inventory& inventory : unknown) {
    const LaunchId id = launch_id_of(inventory);
    outbox_.drop_if([&](const v1::RankEvent& event) { return launch_id_of(event) == id; });
    Launch* launch = find_launch(id);
    if (launch == nullptr) continue;
    // Before it is stopped, so that the exits which follow are not told.
    launch->disown(inventory.output_wanted());
    if (launch->all_ended()) continue;
    stop_launch(*launch, settings_.grace,
                str_cat("for the master at ", settings_.master, " generation ", id.generation,
                        " of job ", id.job, " is over"));
  }
}

void Worker::Impl::on_message(v1::MasterMessage message) {
  switch (message.message_case()) {
    case v1::MasterMessage::kPrepare:
      return prepare(message.prepare());
    case v1::MasterMessage::kLaunch:
      return launch(std::move(*message.mutable_launch()));
    case v1::MasterMessage::kStopRanks:
      return stop_ranks(message.stop_ranks());
    case v1::MasterMessage::kLookAtRank:
      return look_at_rank(message.look_at_rank());
    case v1::MasterMessage::kRankInput:
      return give_input(message.rank_input());
    case v1::MasterMessage::kGrantTasks:
      tasks_->answered(message.grant_tasks().answers());
      tasks_->grant(message.grant_tasks());
      // It crossed the shutdown: its tasks end as stopped, so that the master hears of each lease.
      if (shutting_down_) tasks_->stop_all(settings_.grace);
      return;
    case v1::MasterMessage::kTaskAnswers:
      return tasks_->answered(message.task_answers());
    case v1::MasterMessage::kStoreAnswer:
      return relay_->answer(message.store_answer());
    case v1::MasterMessage::kOutputAck:
      if (Launch* launch = find_launch(launch_id_of(message.output_ack()))) {
        launch->acknowledge_output(message.output_ack().bytes());
        pump();
      }
      return;
    default:
      return;  // from a newer master
  }
}

void Worker::Impl::look_at_rank(const v1::LookAtRank& request) {
  Launch* launch = find_launch(launch_id_of(request));
  if (launch == nullptr) return;
  if (const auto event = launch->look_at(static_cast<Rank>(request.rank()))) send_event(*event);
}

// Answered at once, also when the ring had no room: the client sends what was not taken again.
void Worker::Impl::give_input(const v1::RankInput& input) {
  Launch* launch = find_launch(launch_id_of(input));
  if (launch == nullptr) return;
  std::optional<v1::InputTaken> taken = launch->give_input(input);
  if (!taken) return;
  v1::WorkerMessage message;
  *message.mutable_input_taken() = std::move(*taken);
  link_->send(std::move(message));
}

void Worker::Impl::on_lost() {
  relay_->disconnected();
  if (launches_.empty()) return;
  log(LogLevel::kWarning, "worker", name_, ": lost the master at ", settings_.master,
      "; its ranks keep running for ",
      format_seconds(std::chrono::duration<double>(settings_.master_timeout).count()));
}

void Worker::Impl::on_away() {
  tasks_->stop_all(settings_.grace);
  for (const auto& [id, launch] : launches_) {
    if (launch->all_ended()) continue;
    stop_launch(
        *launch, settings_.grace,
        str_cat("the master at ", settings_.master, " was not reached for ",
                format_seconds(std::chrono::duration<double>(settings_.master_timeout).count())));
  }
}

void Worker::Impl::on_heartbeat_answered() {
  // The answer has confirmed events, so some launches may not be needed any more.
  outbox_.heartbeat_answered();
  forget_ended();
  if (shutting_down_) continue_shutdown();
}

void Worker::Impl::prepare(const v1::Prepare& request) {
  v1::WorkerMessage message;
  v1::Prepared& prepared = *message.mutable_prepared();
  prepared.set_job_id(request.job_id());
  prepared.set_generation(request.generation());
  prepared.set_life(request.life());
  const Result<int> port = try_prepare(request);
  if (port) {
    prepared.set_port(static_cast<uint32_t>(*port));
  } else {
    prepared.set_error(to_utf8(port.failure().message));
    prepared.set_exit_code(cannot_start_code(port.failure()));
  }
  link_->send(std::move(message));
}

Result<int> Worker::Impl::try_prepare(const v1::Prepare& request) const {
  const v1::JobSpec& spec = request.spec();
  if (shutting_down_) return Failure{ErrorKind::kUnavailable, "the worker is shutting down"};
  if (spec.command().empty()) return Failure{ErrorKind::kInvalid, "the command is empty"};
  // Only its PATH is used, which does not depend on the rank's place.
  const Environment env = rank_environment(
      own_environment(), Environment(spec.env().begin(), spec.env().end()), RankPlace{}, 1);
  const Result<std::string> program =
      find_program(spec.command(0), spec.working_directory(), search_path_of(env));
  if (!program) return program.failure();
  if (!request.want_port()) return 0;
  return free_port(site_.host_address);
}

void Worker::Impl::launch(v1::Launch request) {
  const LaunchId id = launch_id_of(request);
  // A launch that is here already was sent again after a reconnect.
  if (find_launch(id) != nullptr || request.ranks().empty()) return;
  log(LogLevel::kInfo, "worker", name_, ": job ", id.job, " generation ", id.generation,
      ": spawning ", request.ranks_size(), " of ", request.spec().ranks(), " ranks");
  std::unique_ptr<Launch>& launch = launches_[id] =
      std::make_unique<Launch>(*loop_, site_, std::move(request), launch_listener(id));
  launch->start();
  // It crossed the shutdown: its ranks end before they start, and the master hears of each.
  if (shutting_down_) stop_launch(*launch, settings_.grace, "the worker is shutting down");
}

void Worker::Impl::stop_ranks(const v1::StopRanks& request) {
  const LaunchId id = launch_id_of(request);
  Launch* launch = find_launch(id);
  if (launch != nullptr) stop_launch(*launch, milliseconds(request.grace_ms()), request.reason());
  tasks_->stop(id, milliseconds(request.grace_ms()));
}

Launch::Listener Worker::Impl::launch_listener(const LaunchId& id) {
  Launch::Listener listener;
  listener.event = [this](v1::RankEvent event) { tell(std::move(event)); };
  listener.progressed = [this] { pump_soon(); };
  listener.rank_ended = [this, id](Rank rank) {
    // Nobody waits for the answers any more, but the agent's calls stay open until they come.
    relay_->fail_rank(id, static_cast<uint32_t>(rank),
                      {ErrorKind::kUnavailable, "the rank that asked has ended"});
  };
  return listener;
}

Launch* Worker::Impl::find_launch(const LaunchId& id) const {
  const auto found = launches_.find(id);
  return found == launches_.end() ? nullptr : found->second.get();
}

void Worker::Impl::stop_launch(Launch& launch, milliseconds grace, const std::string& reason) {
  log(LogLevel::kInfo, "worker", name_, ": job ", launch.id().job, ": stopping ",
      launch.running_count(), " ranks: ", reason);
  launch.stop(grace, reason);
  // Ranks that wait in the store for a peer hear at once why it will not come.
  relay_->fail_launch(launch.id(), {ErrorKind::kPeerLost, reason});
}

// The master hears of it, now or after the next registration. Of a launch that it has done with
// nothing is told: it would drop that.
void Worker::Impl::tell(v1::RankEvent event) {
  const Launch* launch = find_launch(launch_id_of(event));
  if (launch != nullptr && launch->disowned()) return;
  send_event(event);
  outbox_.add(std::move(event));
}

void Worker::Impl::send_event(const v1::RankEvent& event) {
  v1::WorkerMessage message;
  *message.mutable_rank_event() = event;
  link_->send(std::move(message));
}

// Posted, because callers are in the middle of callbacks; and once only, however many ask before it
// runs.
void Worker::Impl::pump_soon() {
  if (std::exchange(pump_posted_, true)) return;
  loop_->post([this] {
    pump_posted_ = false;
    pump();
  });
}

void Worker::Impl::pump() {
  for (const auto& [id, launch] : launches_) {
    // Without a link nothing is taken out: the link would drop it.
    if (!link_->up() || !launch->output_wanted()) continue;
    while (std::optional<v1::RankOutput> output = launch->next_output()) {
      v1::WorkerMessage message;
      *message.mutable_rank_output() = std::move(*output);
      link_->send(std::move(message));
    }
    // After the output, and on the same ordered stream: whoever hears of an exit has heard its last
    // lines, unless they are overdue.
    for (v1::RankEvent& event : launch->take_exits()) tell(std::move(event));
  }
  forget_ended();
  if (shutting_down_) continue_shutdown();
  continue_hand_over();
}

void Worker::Impl::forget_ended() {
  // With a launch goes its folder on disk, so it must be certain that nothing of it is wanted: all
  // exits are confirmed, all output is acknowledged.
  std::erase_if(earlier_tasks_, [](const auto& tasks) { return tasks->idle(); });
  std::erase_if(launches_, [this](const auto& entry) {
    const Launch& launch = *entry.second;
    if (!launch.all_ended()) return false;
    if (launch.disowned()) return !launch.output_wanted() || launch.output_done();
    return launch.exits_taken() && launch.output_done() &&
           !outbox_.holds(
               [&](const v1::RankEvent& event) { return launch_id_of(event) == launch.id(); });
  });
}

void Worker::Impl::begin_hand_over(std::function<void()> leave) {
  if (settings_.state_folder.empty() || site_.shim.adopt_timeout.count() == 0) {
    log(LogLevel::kError, "worker", name_,
        ": no other worker could take its ranks over: that needs a --state-dir, and neither "
        "--no-adopt nor --adopt-timeout 0; nothing is done");
    return;
  }
  if (shutting_down_) return;
  if (leave_) return leave();
  log(LogLevel::kInfo, "worker", name_, ": makes room for a successor, which has ",
      format_seconds(std::chrono::duration<double>(site_.shim.adopt_timeout).count()),
      " from then on; its ranks run on");
  leave_ = std::move(leave);
  tasks_->pause();
  continue_hand_over();
}

void Worker::Impl::continue_hand_over() {
  // Ranks are not waited for: their shims keep them running. Tasks die with their worker.
  if (leave_ && !shutting_down_ && tasks_->nothing_to_lose()) leave_();
}

void Worker::Impl::begin_shutdown(bool force) {
  const bool again = std::exchange(shutting_down_, true);
  const milliseconds grace = force || again ? milliseconds(0) : settings_.grace;
  for (const auto& [id, launch] : launches_) {
    // Also for ranks that have ended: one that SIGTERM ended, and whose exit was not told yet,
    // counts as preempted.
    launch->preempt();
    if (!launch->all_ended()) {
      stop_launch(*launch, grace, str_cat("worker ", name_, " is shutting down"));
    }
  }
  tasks_->stop_all(grace);
  continue_shutdown();
}

// Ends the session once every rank is gone and the master knows it (or does not listen).
void Worker::Impl::continue_shutdown() {
  if (ending_session_) return;
  for (const auto& [id, launch] : launches_) {
    if (!launch->all_ended()) return;
  }
  // The ends of tasks are not waited for: they are sent ahead of the farewell on the same stream.
  if (!tasks_->idle() || !earlier_tasks_.empty()) return;
  if (!link_->up() || launches_.empty()) return end_session();
  if (last_words_timer_ != 0) return;
  // Its answer confirms the last exits; then no launch is left, and this is called again. A master
  // that does not answer is not waited for longer than kLastWordsLimit.
  link_->send_heartbeat();
  last_words_timer_ = loop_->after(kLastWordsLimit, [this] { end_session(); });
}

void Worker::Impl::end_session() {
  if (std::exchange(ending_session_, true)) return;
  link_->finish([this] { loop_->stop(); });
}

Worker::Worker(WorkerSettings settings) : impl_(std::make_unique<Impl>(std::move(settings))) {}
Worker::~Worker() = default;
Result<void> Worker::run() {
  return impl_->run();
}
void Worker::shutdown(bool force) {
  impl_->shutdown(force);
}
void Worker::hand_over(std::function<void()> leave) {
  impl_->hand_over(std::move(leave));
}

}  // namespace longhaul
