#include "control/master/master.h"

#include <grpc/support/log.h>
#include <grpcpp/server_builder.h>

#include <filesystem>
#include <random>
#include <utility>

#include "control/common/credentials.h"
#include "control/common/grpc_runtime.h"
#include "control/master/record_proto.h"
#include "longhaul/base/log.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr int kMaxRequestBytes = 64 << 20;

// gRPC writes to stderr by itself; what matters of it reaches callers as an error.
void log_for_grpc(gpr_log_func_args* args) {
  log(LogLevel::kDebug, "grpc", args->message);
}

std::string random_name() {
  std::random_device random;
  return str_cat(std::hex, random(), random());
}

Core::Options core_options(const MasterOptions& options) {
  Core::Options core = options.core;
  if (options.state_folder.empty()) return core;
  core.state_folder = options.state_folder;
  core.output_folder = options.state_folder + "/output";
  std::error_code ignored;  // OutputLog says what it cannot write
  std::filesystem::create_directories(core.output_folder, ignored);
  return core;
}

}  // namespace

Master::Master(const MasterOptions& options, std::unique_ptr<Ledger> ledger, MasterMemory memory)
    : durable_(ledger != nullptr),
      core_(core_options(options), clock_, random_name(), std::move(ledger), std::move(memory)) {}

Result<std::unique_ptr<Master>> Master::start(const MasterOptions& options) {
  const size_t colon = options.listen.rfind(':');
  if (colon == std::string::npos) {
    return Failure{ErrorKind::kInvalid, str_cat("'", options.listen, "' is not HOST:PORT")};
  }
  set_up_grpc();
  gpr_set_log_function(log_for_grpc);
  std::unique_ptr<Ledger> ledger;
  MasterMemory memory;
  if (!options.state_folder.empty()) {
    LedgerContents contents;
    Result<std::unique_ptr<Ledger>> opened = Ledger::open(options.state_folder, &contents);
    if (!opened) return opened.failure();
    ledger = std::move(*opened);
    Result<ClusterMemory> remembered = remember(contents);
    if (!remembered) return remembered.failure();
    memory = {std::move(*remembered), std::move(contents.inputs), std::move(contents.input_sets),
              events_of(contents)};
  }
  std::unique_ptr<Master> master(new Master(options, std::move(ledger), std::move(memory)));
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.listen, server_credentials(), &port);
  // Else a second master on the same port would start and share its calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  for (const char* feature : kUnusedFeatures) builder.AddChannelArgument(feature, 0);
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.RegisterService(&master->worker_service_);
  builder.RegisterService(&master->job_service_);
  master->server_ = builder.BuildAndStart();
  if (master->server_ == nullptr || port == 0) {
    return Failure{ErrorKind::kUnavailable,
                   str_cat("cannot listen on ", options.listen,
                           ": the port is taken, or this machine has no such address")};
  }
  master->address_ = str_cat(options.listen.substr(0, colon), ":", port);
  return master;
}

bool Master::shut_down(milliseconds limit) {
  const bool stopped = durable_ || core_.stop_jobs("the master is shutting down", limit);
  core_.close_sessions();
  core_.give_up_writing();
  // Watchers of ended jobs are on their last event; give them a moment.
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
  return stopped;
}

Master::~Master() {
  if (server_ != nullptr) {
    core_.give_up_writing();
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }
  core_.close();
}

}  // namespace longhaul
