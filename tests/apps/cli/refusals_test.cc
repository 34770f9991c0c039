// What every command makes of a master that refuses: its exit code and one line.
#include <gmock/gmock.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::StartsWith;

// Answers every call with one status.
class RefusingMaster final : private grpc::CallbackGenericService {
 public:
  RefusingMaster(grpc::StatusCode code, const std::string& why) : status_(code, why) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(this);
    server_ = builder.BuildAndStart();
  }
  ~RefusingMaster() override { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  class Refusal final : public grpc::ServerGenericBidiReactor {
   public:
    explicit Refusal(const grpc::Status& status) { Finish(status); }
    void OnDone() override { delete this; }
  };
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* /*context*/) override {
    return new Refusal(status_);
  }

  const grpc::Status status_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

struct Refused {
  grpc::StatusCode status;
  int exit_code;
};

class RefusedCommands : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedCommands, ExitWithTheCodeThatSaysWhatToDo) {
  const RefusingMaster master(GetParam().status, "because of this");
  TempDir folder;
  ChildProcess::Options options;
  options.env = {{"LONGHAUL_MASTER", master.address()}};
  options.folder = folder.path().string();
  for (const auto& arguments :
       std::vector<std::vector<std::string>>{{"ps"},
                                             {"nodes"},
                                             {"status", "j1"},
                                             {"explain", "j1"},
                                             {"logs", "j1"},
                                             {"logs", "j1", "-f"},
                                             {"wait", "j1"},
                                             {"stop", "j1"},
                                             {"results", "j1"},
                                             {"drain", "gpu-a"},
                                             {"drain", "gpu-a", "--wait"},
                                             {"events"},
                                             {"events", "-f"},
                                             {"run", "--", "true"},
                                             {"run", "-d", "--", "true"},
                                             {"map", "--array", "0-1", "--", "true"}}) {
    std::vector<std::string> command = {LONGHAUL_TEST_PROGRAMS "/longhaul"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    ChildProcess longhaul(command, folder.file("command"), options);
    EXPECT_EQ(longhaul.wait(), GetParam().exit_code) << arguments[0];
    EXPECT_THAT(longhaul.err(), StartsWith("longhaul: because of this\n")) << arguments[0];
  }
}

INSTANTIATE_TEST_SUITE_P(All, RefusedCommands,
                         ::testing::Values(Refused{grpc::StatusCode::PERMISSION_DENIED, 77},
                                           Refused{grpc::StatusCode::UNAUTHENTICATED, 77},
                                           Refused{grpc::StatusCode::RESOURCE_EXHAUSTED, 75},
                                           Refused{grpc::StatusCode::INVALID_ARGUMENT, 64},
                                           Refused{grpc::StatusCode::INTERNAL, 70}));

}  // namespace
}  // namespace longhaul::testing
