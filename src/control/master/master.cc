#include "control/master/master.h"

#include <grpc/support/log.h>
#include <grpcpp/server_builder.h>

#include <filesystem>
#include <utility>

#include "base/log.h"
#include "base/random_id.h"
#include "control/database/clock_mark.h"
#include "control/database/engine/life_file.h"
#include "control/database/memory.h"
#include "longhaul/base/strings.h"
#include "rpc/grpc_runtime.h"
#include "rpc/server_limits.h"
#include "wire/host_and_port.h"
#include "wire/socket.h"

namespace longhaul {
namespace {

// After so much silence a caller is asked for a sign of life (an HTTP/2 ping), and it may take as
// long to give it.
constexpr int kAskForLifeMs = 60'000;

// gRPC writes to stderr by itself; what matters of it reaches callers as an error.
void log_for_grpc(gpr_log_func_args* args) {
  log(LogLevel::kDebug, "grpc", args->message);
}

Core::Options core_options(const MasterOptions& options) {
  Core::Options core = options.core;
  if (options.state_folder.empty()) return core;
  core.state_folder = options.state_folder;
  core.output.folder = options.state_folder + "/output";
  std::error_code ignored;  // OutputLog says what it cannot write
  std::filesystem::create_directories(core.output.folder, ignored);
  return core;
}

}  // namespace

Master::Master(const MasterOptions& options, std::unique_ptr<Database> database,
               MasterMemory memory)
    : durable_(database != nullptr),
      core_(core_options(options), clock_, random_id(), std::move(database), std::move(memory)) {}

Result<std::unique_ptr<Master>> Master::start(const MasterOptions& options) {
  const Result<HostAndPort> listen = parse_host_and_port(options.listen);
  if (!listen) return listen.failure();
  set_up_grpc();
  gpr_set_log_function(log_for_grpc);
  std::unique_ptr<Database> database;
  MasterMemory memory;
  memory.cluster.life = random_life();  // of one that keeps nothing
  if (!options.state_folder.empty()) {
    DatabaseContents contents;
    Result<std::unique_ptr<Database>> opened = Database::open(options.state_folder, &contents);
    if (!opened) return opened.failure();
    database = std::move(*opened);
    const ClockMark last{contents.of<MetaTable>()[kHostStart], contents.of<MetaTable>()[kHostMs]};
    memory.clock_shift = clock_shift(last, {this_start(), to_ms(std::chrono::steady_clock::now())});
    memory.cluster = remember(contents, memory.clock_shift, &memory.unreadable);
    memory.input_sets = std::move(contents.of<InputsTable>());
    memory.events = events_of(contents.of<EventsTable>());
    memory.dropped = std::move(contents.of<DroppedTable>());
  }
  std::unique_ptr<Master> master(new Master(options, std::move(database), std::move(memory)));
  // Before the port is bound: nobody has heard of this master yet.
  if (const auto& failure = master->core_.start_failure()) return *failure;
  Result<UniqueFd> listener = listen_tcp(listen->host, listen->port);
  if (!listener) return listener.failure();
  const Result<uint16_t> port = local_port(listener->get());
  if (!port) return port.failure();
  grpc::ServerBuilder builder;
  Acceptor::Server connections = Acceptor::add_to(builder, options.credentials);
  for (const char* feature : kUnusedFeatures) builder.AddChannelArgument(feature, 0);
  // Else a watcher whose host has vanished would be kept for ever: TCP says nothing where nothing
  // is sent.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kAskForLifeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kAskForLifeMs);
  set_limits(builder, {});
  builder.RegisterService(&master->worker_service_);
  builder.RegisterService(&master->job_service_);
  master->server_ = builder.BuildAndStart();
  if (master->server_ == nullptr) {
    return Failure{ErrorKind::kUnavailable, str_cat("cannot serve on ", options.listen)};
  }
  master->acceptor_ =
      std::make_unique<Acceptor>("master", std::move(*listener), std::move(connections));
  master->address_ = to_text({listen->host, *port});
  return master;
}

bool Master::shut_down(milliseconds limit) {
  // With a state folder the jobs run on, and the next master takes them up.
  const bool stopped = durable_ || core_.stop_jobs("the master is shutting down", limit);
  // Where the disk takes nothing, whoever waits for it is told so now: the server ends only when
  // every call has been answered.
  core_.close_sessions();
  core_.give_up_writing();
  acceptor_.reset();
  // Watchers of jobs that have just ended still read their last events: calls are broken off after
  // two seconds only.
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
  return stopped;
}

Master::~Master() {
  acceptor_.reset();
  if (server_ != nullptr) {
    // Calls that wait for a disk that takes nothing would keep Wait() from returning.
    core_.give_up_writing();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }
  // After the server: its calls post to the core to their end.
  core_.close();
}

}  // namespace longhaul
