// Large results as a master takes them; the worker is played by the test.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "control/convert/compression.h"
#include "control/master/master.h"
#include "rpc/credentials.h"
#include "tests/support/child_process.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"
#include "wire/checksum.h"

namespace longhaul::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace fs = std::filesystem;

class PutResultTest : public ::testing::Test {
 protected:
  using Session = grpc::ClientReaderWriter<v1::WorkerMessage, v1::MasterMessage>;

  PutResultTest() {
    start();
    submit();
    connect();
    lease_ = grants().at(0);
  }
  ~PutResultTest() override { disconnect(); }

  void start() {
    MasterOptions options;
    options.listen = "127.0.0.1:0";
    options.state_folder = folder_.file("state");
    master_ = std::move(Master::start(options)).value_or_throw();
    const auto channel = grpc::CreateChannel(master_->address(), plain_text().dialing());
    worker_ = v1::WorkerService::NewStub(channel);
    client_ = v1::JobService::NewStub(channel);
  }

  void submit() {
    v1::SubmitJobRequest request;
    request.mutable_spec()->add_command("program");
    request.mutable_spec()->mutable_array()->set_tasks(1);
    request.mutable_spec()->mutable_array()->set_indices("0");
    request.mutable_spec()->mutable_array()->set_batch(1);
    request.mutable_spec()->mutable_array()->set_max_attempts(3);
    request.mutable_spec()->mutable_array()->set_max_result_bytes(uint64_t{8} << 20);
    v1::SubmitJobReply reply;
    grpc::ClientContext context;
    ASSERT_TRUE(client_->SubmitJob(&context, request, &reply).ok());
  }

  void connect() {
    session_context_ = std::make_unique<grpc::ClientContext>();
    session_ = worker_->Session(session_context_.get());
    v1::WorkerMessage message;
    v1::Register* registration = message.mutable_register_();
    registration->set_worker_id("w");
    registration->set_incarnation("life");
    registration->set_host("h");
    registration->set_address("127.0.0.1");
    registration->set_slots(1);
    if (!lease_.incarnation().empty()) {
      v1::HeldLease* held = registration->add_leases();
      held->set_job_id("j1");
      held->set_generation(1);
      held->set_life(life_);
      *held->mutable_lease() = lease_;
      held->set_batch(lease_.epoch());
    }
    session_->Write(message);
    life_ = next(v1::MasterMessage::kRegistered).registered().life();
  }
  void disconnect() {
    session_context_->TryCancel();
    (void)session_->Finish();
  }
  void restart_master() {
    disconnect();
    client_.reset();
    worker_.reset();
    master_.reset();
    start();
    connect();
  }

  v1::MasterMessage next(v1::MasterMessage::MessageCase kind) {
    v1::MasterMessage message;
    while (session_->Read(&message)) {
      if (message.message_case() == kind) return message;
    }
    ADD_FAILURE() << "the stream ended";
    return {};
  }
  std::vector<v1::Lease> grants() {
    std::vector<v1::Lease> leases;
    const v1::MasterMessage message = next(v1::MasterMessage::kGrantTasks);
    for (const v1::TaskBatch& batch : message.grant_tasks().batches()) {
      for (const v1::TaskGrant& task : batch.tasks()) leases.push_back(task.lease());
    }
    return leases;
  }

  struct Put {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReaderWriter<v1::PutResultRequest, v1::PutResultReply>> stream;
    v1::PutResultReply reply;
  };
  // Opens a stream with the header; `reply` tells how much is there.
  std::unique_ptr<Put> put(const v1::Lease& lease) {
    auto made = std::make_unique<Put>();
    made->stream = worker_->PutResult(&made->context);
    v1::PutResultRequest request;
    request.mutable_header()->set_job_id("j1");
    request.mutable_header()->set_generation(1);
    request.mutable_header()->set_life(life_);
    *request.mutable_header()->mutable_lease() = lease;
    made->stream->Write(request);
    made->stream->Read(&made->reply);
    return made;
  }
  static void data(Put& put, const std::string& bytes) {
    v1::PutResultRequest request;
    request.set_data(bytes);
    put.stream->Write(request);
  }
  // The end as the stream's status says it.
  static grpc::Status end(Put& put, const std::string& all, uint64_t result_bytes) {
    v1::PutResultRequest request;
    Checksum checksum;
    checksum.update(all);
    request.mutable_end()->set_bytes(all.size());
    request.mutable_end()->set_checksum(checksum.value());
    request.mutable_end()->set_result_bytes(result_bytes);
    put.stream->Write(request);
    put.stream->Read(&put.reply);
    return put.stream->Finish();
  }
  bool stores(const v1::Lease& lease, const std::string& all) {
    const auto stream = put(lease);
    data(*stream, all.substr(stream->reply.have()));
    return end(*stream, all, 1000).ok() && stream->reply.stored();
  }

  // Whether the master takes this end of a task.
  bool takes(const v1::Lease& lease, uint64_t stored_bytes) {
    v1::WorkerMessage message;
    v1::TaskEnded* ended = message.mutable_tasks_ended()->add_ended();
    ended->set_job_id("j1");
    ended->set_generation(1);
    ended->set_life(life_);
    *ended->mutable_lease() = lease;
    ended->mutable_exit()->set_exit_code(0);
    ended->set_stored_bytes(stored_bytes);
    ended->set_result_bytes(1000);
    session_->Write(message);
    const v1::TaskAnswers answers = next(v1::MasterMessage::kTaskAnswers).task_answers();
    EXPECT_EQ(answers.taken_size() + answers.stale_size(), 1);
    return answers.taken_size() == 1 && answers.taken(0) == lease.epoch();
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    std::error_code ignored;
    for (const auto& entry :
         fs::recursive_directory_iterator(folder_.file("state/results"), ignored)) {
      if (entry.is_regular_file(ignored)) names.push_back(entry.path().filename());
    }
    return names;
  }
  std::string file_of(const v1::Lease& lease) const { return "0." + std::to_string(lease.epoch()); }

  std::string result() {
    grpc::ClientContext context;
    v1::GetResultsRequest request;
    request.set_job("j1");
    const auto stream = client_->GetResults(&context, request);
    Decompressor frames;
    std::string bytes;
    for (v1::TaskResult message; stream->Read(&message);) {
      frames
          .add(message.result(),
               [&](std::string_view piece) {
                 bytes += piece;
                 return true;
               })
          .value_or_throw();
    }
    EXPECT_TRUE(stream->Finish().ok());
    return bytes;
  }

  const std::string plain_ = std::string(600, 'a') + std::string(400, 'b');
  const std::string all_ =
      compress_piece(plain_.substr(0, 500)) + compress_piece(plain_.substr(500));
  TempDir folder_;
  std::unique_ptr<Master> master_;
  std::unique_ptr<v1::WorkerService::Stub> worker_;
  std::unique_ptr<v1::JobService::Stub> client_;
  std::unique_ptr<grpc::ClientContext> session_context_;
  std::unique_ptr<Session> session_;
  uint64_t life_ = 0;
  v1::Lease lease_;
};

TEST_F(PutResultTest, IsStoredThenCommittedOnceThenRead) {
  EXPECT_TRUE(stores(lease_, all_));
  EXPECT_TRUE(takes(lease_, all_.size()));
  EXPECT_TRUE(takes(lease_, all_.size())) << "said again, it is taken";
  EXPECT_EQ(result(), plain_);
  EXPECT_THAT(files(), ElementsAre(file_of(lease_)));
}

TEST_F(PutResultTest, GoesOnWhereItBrokeOffAlsoAfterARestart) {
  {
    const auto broken = put(lease_);
    EXPECT_EQ(broken->reply.have(), 0u);
    data(*broken, all_.substr(0, 10));
    const std::string part = folder_.file("state/results/1/" + file_of(lease_) + ".part");
    ASSERT_TRUE(eventually([&] { return read_text(part).size() == 10; }));
    broken->context.TryCancel();
    (void)broken->stream->Finish();
  }
  restart_master();
  const auto again = put(lease_);
  EXPECT_EQ(again->reply.have(), 10u);
  data(*again, all_.substr(10));
  EXPECT_TRUE(end(*again, all_, 1000).ok());
  EXPECT_TRUE(takes(lease_, all_.size()));
  EXPECT_EQ(result(), plain_);
}

TEST_F(PutResultTest, OneThatWasStoredOutlivesARestartBeforeItsEndIsTold) {
  EXPECT_TRUE(stores(lease_, all_));
  restart_master();
  const auto again = put(lease_);
  EXPECT_EQ(again->reply.have(), all_.size());
  EXPECT_TRUE(end(*again, all_, 1000).ok());
  EXPECT_TRUE(takes(lease_, all_.size()));
  restart_master();
  EXPECT_EQ(result(), plain_);
}

TEST_F(PutResultTest, AnEndWithoutItsFileDoesNotCount) {
  (void)takes(lease_, 77);
  const std::vector<v1::Lease> again = grants();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].attempt(), 2u);
  EXPECT_THAT(result(), IsEmpty());
}

TEST_F(PutResultTest, DamagedBytesAreWantedAgain) {
  {
    const auto damaged = put(lease_);
    std::string wrong = all_;
    wrong[3] ^= 1;
    data(*damaged, wrong);
    EXPECT_EQ(end(*damaged, all_, 1000).error_code(), grpc::StatusCode::DATA_LOSS);
  }
  EXPECT_THAT(files(), IsEmpty());
  EXPECT_TRUE(stores(lease_, all_));
}

TEST_F(PutResultTest, MoreThanTheCapAndNonsenseAreRefused) {
  {
    const auto large = put(lease_);
    EXPECT_EQ(end(*large, "", uint64_t{9} << 20).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  {
    const auto large = put(lease_);
    for (int i = 0; i < 4; ++i) data(*large, std::string(size_t{3} << 20, 'x'));
    EXPECT_EQ(end(*large, "", 1).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  grpc::ClientContext context;
  const auto stream = worker_->PutResult(&context);
  v1::PutResultRequest request;
  request.set_data("x");
  stream->Write(request);
  v1::PutResultReply reply;
  EXPECT_FALSE(stream->Read(&reply));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(PutResultTest, ALeaseThatCountsNoMoreStoresNothingAndLeavesNothing) {
  EXPECT_TRUE(stores(lease_, all_));
  v1::StopJobRequest stop;
  stop.set_job("j1");
  stop.set_force(true);
  v1::StopJobReply stopped;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->StopJob(&context, stop, &stopped).ok());
  EXPECT_FALSE(takes(lease_, all_.size()));
  const auto late = put(lease_);
  EXPECT_EQ(late->stream->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  restart_master();
  EXPECT_THAT(files(), IsEmpty());
}

}  // namespace
}  // namespace longhaul::testing
