#include "tests/e2e/cluster.h"

#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "longhaul/base/strings.h"
#include "tests/support/processes.h"

namespace longhaul::testing {
namespace {

constexpr const char* kMarkerName = "LONGHAUL_TEST_MARKER";

std::string fresh_marker() {
  static std::atomic<int> count{0};
  return str_cat(::getpid(), "-", ++count);
}

}  // namespace

std::string program(const std::string& name) {
  return str_cat(LONGHAUL_TEST_PROGRAMS, "/", name);
}

std::string rank_program() {
  return program("longhaul-test-rank");
}

void cancel(ChildProcess& run) {
  run.kill(SIGINT);
  EXPECT_TRUE(
      eventually([&] { return run.err().find("once more stops it") != std::string::npos; }));
  run.kill(SIGINT);
}

Cluster::Cluster(const Options& options) : marker_(fresh_marker()), options_(options) {
  if (!options.daemons) {
    address_ = "127.0.0.1:1";
    return;
  }
  start_master("127.0.0.1:0");
  for (int i = 0; i < options.workers; ++i) add_worker(options.slots);
  wait_for_workers(static_cast<size_t>(options.workers));
}

void Cluster::start_master(const std::string& listen) {
  std::filesystem::remove(file("master.port"));
  std::vector<std::string> command = {program("longhaul-master"),
                                      "--listen",
                                      listen,
                                      "--port-file",
                                      file("master.port"),
                                      "--lease",
                                      options_.lease,
                                      "--state",
                                      master_state()};
  command.insert(command.end(), options_.master_flags.begin(), options_.master_flags.end());
  master_ = start(command, "master");
  if (!eventually([this] { return std::filesystem::exists(file("master.port")); })) {
    throw std::runtime_error("longhaul-master did not start: " + master_->err());
  }
  address_ = read_text(file("master.port"));
  address_.erase(address_.find_last_not_of(" \n") + 1);
}

std::string Cluster::master_state() const {
  return (folder_.path() / options_.master_state).string();
}

void Cluster::restart_master(Memory memory) {
  master_->kill(SIGKILL);
  master_->wait();
  if (memory == Memory::kForgotten) std::filesystem::remove_all(master_state());
  start_master(std::string(address_));
}

Cluster::~Cluster() {
  if (::testing::Test::HasFailure()) {
    for (const auto& command : commands_) {
      ADD_FAILURE() << "a longhaul command printed\n" << command->out() << command->err();
    }
    ADD_FAILURE() << "the daemons said\n" << logs();
  }
  stop_all();
  const std::string marker = str_cat(kMarkerName, "=", marker_);
  const bool all_gone = eventually([&] { return processes_marked(marker).empty(); });
  EXPECT_TRUE(all_gone) << "left running";
  for (const pid_t pid : processes_marked(marker)) {
    ADD_FAILURE() << pid << ": " << read_text(str_cat("/proc/", pid, "/cmdline"));
    ::kill(pid, SIGKILL);
  }
}

std::unique_ptr<ChildProcess> Cluster::start(const std::vector<std::string>& command,
                                             const std::string& name) {
  ChildProcess::Options options;
  options.env = options_.env;
  options.env[kMarkerName] = marker_;
  options.env["TMPDIR"] = folder_.path().string();
  options.env["LONGHAUL_MASTER"] = address_;
  options.folder = folder_.path().string();
  return std::make_unique<ChildProcess>(command, file(name), options);
}

void Cluster::add_worker(int slots, const std::vector<std::string>& flags) {
  workers_.emplace_back();
  worker_slots_.push_back(slots);
  start_worker(workers_.size() - 1, flags);
}

void Cluster::start_worker(size_t index, const std::vector<std::string>& flags) {
  const std::string name = str_cat("w", index);
  std::vector<std::string> command = {program("longhaul-worker"),
                                      "--master",
                                      address_,
                                      "--name",
                                      name,
                                      "--slots",
                                      std::to_string(worker_slots_.at(index)),
                                      "--address",
                                      "127.0.0.1"};
  if (options_.keep_state) command.insert(command.end(), {"--state-dir", file("state-" + name)});
  command.insert(command.end(), flags.begin(), flags.end());
  workers_.at(index) = start(command, str_cat("worker-", name, "-", ++worker_starts_));
}

void Cluster::kill_worker(size_t index) {
  worker(index).kill(SIGKILL);
  EXPECT_EQ(worker(index).wait(), 128 + SIGKILL);
}

void Cluster::wait_for_workers(size_t count) {
  const bool ready = eventually([&] {
    const auto command = start({program("longhaul"), "nodes", "-o", "json"}, "nodes");
    if (command->wait() != 0) return false;
    const nlohmann::json reply = nlohmann::json::parse(command->out());
    size_t found = 0;
    for (const nlohmann::json& node : reply["nodes"]) {
      if (node["state"] == "ready") ++found;
    }
    return found == count;
  });
  EXPECT_TRUE(ready) << "not all of " << count << " workers are ready";
}

ChildProcess& Cluster::longhaul(const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {program("longhaul")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return start_in_folder(command);
}

ChildProcess& Cluster::start_in_folder(const std::vector<std::string>& command) {
  commands_.push_back(start(command, str_cat("command-", commands_.size())));
  return *commands_.back();
}

int Cluster::longhaul_to_end(const std::vector<std::string>& arguments) {
  const std::optional<int> code = longhaul(arguments).wait();
  EXPECT_TRUE(code) << "longhaul " << join(arguments, " ") << " did not end";
  return code.value_or(-1);
}

pid_t Cluster::wait_for_touch(const std::string& name, int rank) {
  const std::string path = str_cat(file(name), ".", rank);
  // A shell makes the file before it writes into it.
  const auto is_written = [&] { return !read_text(path).empty(); };
  // Thrown, because a test that goes on would kill pid 0: itself.
  if (!eventually(is_written)) throw std::runtime_error(path + " was not made, or not written");
  return std::stoi(read_text(path));
}

std::string Cluster::logs() const {
  std::string text = master_ ? master_->err() : "";
  for (const auto& worker : workers_) text += worker->err();
  return text;
}

// Workers first: each stops its ranks and takes leave of the master.
void Cluster::stop_all() {
  for (const auto& worker : workers_) worker->kill(SIGTERM);
  for (const auto& worker : workers_) {
    worker->kill(SIGCONT);
    EXPECT_TRUE(worker->wait(std::chrono::seconds(30))) << "a worker does not end";
  }
  if (master_) {
    master_->kill(SIGTERM);
    EXPECT_TRUE(master_->wait(std::chrono::seconds(30))) << "the master does not end";
  }
  commands_.clear();
}

}  // namespace longhaul::testing
