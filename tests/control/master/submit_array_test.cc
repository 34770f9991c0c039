// Arrays whose inputs come in chunks, as a master takes them.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "control/master/master.h"
#include "rpc/credentials.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SubmitArrayTest : public ::testing::Test {
 protected:
  SubmitArrayTest() { start(); }

  void start() {
    MasterOptions options;
    options.listen = "127.0.0.1:0";
    options.state_folder = folder_.file("state");
    master_ = std::move(Master::start(options)).value_or_throw();
    client_ = v1::JobService::NewStub(channel());
  }
  void restart_master() {
    client_.reset();
    master_.reset();
    start();
  }
  std::shared_ptr<grpc::Channel> channel() const {
    return grpc::CreateChannel(master_->address(), plain_text().dialing());
  }

  struct Submission {
    grpc::ClientContext context;
    v1::SubmitJobReply reply;
    std::unique_ptr<grpc::ClientWriter<v1::SubmitArrayRequest>> stream;

    void inputs(const std::vector<std::string>& texts) {
      v1::SubmitArrayRequest request;
      for (const std::string& text : texts) request.mutable_inputs()->add_inputs(text);
      stream->Write(request);
    }
    grpc::Status end(uint32_t tasks, const std::string& key = "key") {
      v1::SubmitArrayRequest request;
      v1::JobSpec& spec = *request.mutable_spec()->mutable_spec();
      spec.add_command("program");
      spec.mutable_array()->set_tasks(tasks);
      spec.mutable_array()->set_batch(1);
      spec.mutable_array()->set_max_attempts(1);
      spec.mutable_array()->set_max_result_bytes(1000);
      request.mutable_spec()->set_submission_key(key);
      stream->Write(request);
      stream->WritesDone();
      return stream->Finish();
    }
  };
  std::unique_ptr<Submission> submission() {
    auto made = std::make_unique<Submission>();
    made->stream = client_->SubmitArray(&made->context, &made->reply);
    return made;
  }

  // What a worker with so many slots is told.
  std::vector<std::string> granted_inputs(uint32_t slots) {
    const auto stub = v1::WorkerService::NewStub(channel());
    grpc::ClientContext context;
    const auto stream = stub->Session(&context);
    v1::WorkerMessage message;
    message.mutable_register_()->set_worker_id("w");
    message.mutable_register_()->set_incarnation("life");
    message.mutable_register_()->set_host("h");
    message.mutable_register_()->set_address("127.0.0.1");
    message.mutable_register_()->set_slots(slots);
    stream->Write(message);
    std::vector<std::string> inputs;
    for (v1::MasterMessage told; inputs.size() < slots && stream->Read(&told);) {
      for (const v1::TaskBatch& batch : told.grant_tasks().batches()) {
        for (const v1::TaskGrant& task : batch.tasks()) inputs.push_back(task.input());
      }
    }
    context.TryCancel();
    (void)stream->Finish();
    return inputs;
  }

  int64_t rows(const std::string& table) const {
    Sqlite database =
        Sqlite::open(folder_.file("state/master.db"), Sqlite::Mode::kReadOnly).value_or_throw();
    Statement count = database.prepare("SELECT count(*) FROM " + table).value_or_throw();
    (void)count.next().value_or_throw();
    return count.integer(0);
  }

  TempDir folder_;
  std::unique_ptr<Master> master_;
  std::unique_ptr<v1::JobService::Stub> client_;
};

TEST_F(SubmitArrayTest, InputsOfAllChunksReachTheirTasksAlsoAfterARestart) {
  {
    const auto array = submission();
    array->inputs({"a", "b"});
    array->inputs({std::string(1000, 'c')});
    array->inputs({"d", "e"});
    ASSERT_TRUE(array->end(5).ok());
    EXPECT_EQ(array->reply.job_id(), "j1");
  }
  restart_master();
  EXPECT_THAT(granted_inputs(5), ElementsAre("a", "b", std::string(1000, 'c'), "d", "e"));
}

TEST_F(SubmitArrayTest, TheSameKeyIsTheSameJobAndItsInputsAreKeptOnce) {
  for (int time = 0; time < 2; ++time) {
    const auto array = submission();
    array->inputs({"a", "b"});
    ASSERT_TRUE(array->end(2).ok());
    EXPECT_EQ(array->reply.job_id(), "j1");
  }
  restart_master();
  EXPECT_EQ(rows("inputs"), 1);
  const auto array = submission();
  array->inputs({"a", "b"});
  ASSERT_TRUE(array->end(2).ok());
  EXPECT_EQ(array->reply.job_id(), "j1");
}

TEST_F(SubmitArrayTest, WhatBreaksOffLeavesNothing) {
  const auto broken = submission();
  broken->inputs({"a"});
  broken->inputs({"b"});
  ASSERT_TRUE(eventually([&] { return rows("inputs") == 2; }));
  broken->context.TryCancel();
  EXPECT_FALSE(broken->stream->Finish().ok());
  ASSERT_TRUE(eventually([&] { return rows("inputs") == 0; }));

  // The master dies with it: the next one cleans up.
  const auto cut = submission();
  cut->inputs({"a"});
  ASSERT_TRUE(eventually([&] { return rows("inputs") == 1; }));
  Database::backup(folder_.file("state"), folder_.file("copy.db")).value_or_throw();
  restart_master();
  EXPECT_TRUE(eventually([&] { return rows("inputs") == 0; }));
  (void)cut->stream->Finish();
  // As after kill -9: the copy was made while the rows were there.
  std::filesystem::create_directory(folder_.file("killed"));
  std::filesystem::rename(folder_.file("copy.db"), folder_.file("killed/master.db"));
  DatabaseContents contents;
  (void)Database::open(folder_.file("killed"), &contents).value_or_throw();
  Sqlite database =
      Sqlite::open(folder_.file("killed/master.db"), Sqlite::Mode::kReadOnly).value_or_throw();
  Statement count = database.prepare("SELECT count(*) FROM inputs").value_or_throw();
  (void)count.next().value_or_throw();
  EXPECT_EQ(count.integer(0), 0);
}

TEST_F(SubmitArrayTest, AnotherNumberOfInputsThanTasksIsRefused) {
  const auto array = submission();
  array->inputs({"a", "b"});
  const grpc::Status status = array->end(3);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("an array of 3 tasks has 2 inputs"));
  const auto empty = submission();
  EXPECT_EQ(empty->end(0).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace longhaul::testing
