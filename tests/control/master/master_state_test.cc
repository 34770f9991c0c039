// A master on a state that is damaged, put back, or on a disk that takes nothing. The worker is
// played by the test, and keeps what a real one keeps.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "control/convert/compression.h"
#include "control/database/engine/restore.h"
#include "control/master/master.h"
#include "rpc/credentials.h"
#include "tests/support/processes.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

// One stream of a worker that says what it is told to say.
class Session {
 public:
  Session(const std::shared_ptr<grpc::Channel>& channel, const v1::Register& registration)
      : stub_(v1::WorkerService::NewStub(channel)), stream_(stub_->Session(&context_)) {
    v1::WorkerMessage message;
    *message.mutable_register_() = registration;
    stream_->Write(message);
  }
  ~Session() {
    context_.TryCancel();
    (void)stream_->Finish();
  }
  std::optional<v1::MasterMessage> read() {
    v1::MasterMessage message;
    return stream_->Read(&message) ? std::optional(message) : std::nullopt;
  }
  v1::MasterMessage next(v1::MasterMessage::MessageCase kind) {
    while (std::optional<v1::MasterMessage> message = read()) {
      if (message->message_case() == kind) return *message;
    }
    ADD_FAILURE() << "the stream ended";
    return {};
  }
  void write(const v1::WorkerMessage& message) { stream_->Write(message); }

 private:
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::MasterMessage>> stream_;
};

class MasterStateTest : public ::testing::Test {
 protected:
  void start() {
    MasterOptions options;
    options.listen = "127.0.0.1:0";
    options.state_folder = state_;
    // In-process calls of the tests may be late; nobody is lost by that.
    options.core.cluster.workers.lease = milliseconds(60'000);
    master_ = std::move(Master::start(options)).value_or_throw();
    client_ = v1::JobService::NewStub(channel());
  }
  void stop() {
    client_.reset();
    master_.reset();
  }
  std::shared_ptr<grpc::Channel> channel() const {
    return grpc::CreateChannel(master_->address(), plain_text().dialing());
  }
  static v1::Register registration(uint32_t slots = 1) {
    v1::Register made;
    made.set_worker_id("w");
    made.set_incarnation("incarnation");
    made.set_host("h");
    made.set_address("127.0.0.1");
    made.set_slots(slots);
    return made;
  }
  static v1::SubmitJobRequest array(const std::vector<std::string>& inputs) {
    v1::SubmitJobRequest request;
    v1::JobSpec& spec = *request.mutable_spec();
    spec.add_command("program");
    spec.mutable_array()->set_tasks(static_cast<uint32_t>(inputs.size()));
    spec.mutable_array()->set_batch(1);
    spec.mutable_array()->set_max_attempts(1);
    spec.mutable_array()->set_max_result_bytes(uint64_t{8} << 20);
    for (const std::string& input : inputs) request.add_inputs(input);
    return request;
  }
  grpc::Status submit(const v1::SubmitJobRequest& request, v1::SubmitJobReply* reply = nullptr) {
    grpc::ClientContext context;
    v1::SubmitJobReply ignored;
    return client_->SubmitJob(&context, request, reply == nullptr ? &ignored : reply);
  }
  v1::JobStatus status(const std::string& job) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_job(job);
    v1::GetJobReply reply;
    const grpc::Status got = client_->GetJob(&context, request, &reply);
    EXPECT_TRUE(got.ok()) << got.error_message();
    return reply.status();
  }
  // Every task with an input of its own, ended well with its input as the result.
  static v1::WorkerMessage ends_of(const v1::GrantTasks& grant) {
    v1::WorkerMessage message;
    for (const v1::TaskBatch& batch : grant.batches()) {
      for (const v1::TaskGrant& task : batch.tasks()) {
        v1::TaskEnded& ended = *message.mutable_tasks_ended()->add_ended();
        ended.set_job_id(grant.job_id());
        ended.set_generation(grant.generation());
        ended.set_life(grant.life());
        *ended.mutable_lease() = task.lease();
        ended.mutable_exit();
        ended.set_result(compress(task.input()));
        ended.set_result_bytes(task.input().size());
      }
    }
    return message;
  }
  std::vector<v1::TaskResult> results(const std::string& job) {
    grpc::ClientContext context;
    v1::GetResultsRequest request;
    request.set_job(job);
    const auto stream = client_->GetResults(&context, request);
    std::vector<v1::TaskResult> all;
    for (v1::TaskResult one; stream->Read(&one);) all.push_back(one);
    const grpc::Status ended = stream->Finish();
    EXPECT_TRUE(ended.ok()) << ended.error_message();
    return all;
  }
  void change(const std::string& sql) const {
    auto database =
        std::move(Sqlite::open(state_ + "/master.db", Sqlite::Mode::kReadWrite)).value_or_throw();
    database.execute(sql.c_str()).value_or_throw();
  }
  void await_state(const std::string& job, v1::JobState state) {
    EXPECT_TRUE(eventually([&] { return status(job).state() == state; }))
        << status(job).ShortDebugString();
  }

  TempDir folder_;
  std::string state_ = folder_.file("state");
  std::unique_ptr<Master> master_;
  std::unique_ptr<v1::JobService::Stub> client_;
};

TEST_F(MasterStateTest, ResultsOfAWipedStateAreRefusedByItsSuccessor) {
  start();
  ASSERT_TRUE(submit(array({"old"})).ok());
  v1::WorkerMessage old_end;
  {
    Session worker(channel(), registration());
    old_end = ends_of(worker.next(v1::MasterMessage::kGrantTasks).grant_tasks());
  }
  stop();
  fs::remove_all(state_);
  start();
  v1::SubmitJobReply reply;
  ASSERT_TRUE(submit(array({"new"}), &reply).ok());
  ASSERT_EQ(reply.job_id(), old_end.tasks_ended().ended(0).job_id());
  Session worker(channel(), registration());
  const v1::GrantTasks grant = worker.next(v1::MasterMessage::kGrantTasks).grant_tasks();
  ASSERT_EQ(grant.batches(0).tasks(0).lease().epoch(),
            old_end.tasks_ended().ended(0).lease().epoch())
      << "to the last number the same";
  worker.write(old_end);
  EXPECT_EQ(worker.next(v1::MasterMessage::kTaskAnswers).task_answers().stale_size(), 1);
  worker.write(ends_of(grant));
  EXPECT_EQ(worker.next(v1::MasterMessage::kTaskAnswers).task_answers().taken_size(), 1);
  await_state("j1", v1::JOB_STATE_SUCCEEDED);
  const std::vector<v1::TaskResult> given = results("j1");
  ASSERT_EQ(given.size(), 1u);
  EXPECT_EQ(given[0].result(), compress("new"));
}

TEST_F(MasterStateTest, AClientThatFollowsAJobOfAnotherLifeIsToldSo) {
  start();
  v1::SubmitJobReply reply;
  ASSERT_TRUE(submit(array({"old"}), &reply).ok());
  EXPECT_NE(reply.life(), 0u);
  EXPECT_EQ(status("j1").life(), reply.life());
  stop();
  fs::remove_all(state_);
  start();
  ASSERT_TRUE(submit(array({"new"})).ok());
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_job("j1");
  request.set_life(reply.life());
  v1::GetJobReply ignored;
  const grpc::Status refused = client_->GetJob(&context, request, &ignored);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("wiped or put back"));
}

// A backup, then more work, then back to the backup under a worker that lives on.
TEST_F(MasterStateTest, ABackupIsPutBackUnderALivingWorker) {
  start();
  ASSERT_TRUE(submit(array({"first"})).ok());
  Database::backup(state_, folder_.file("copy.db")).value_or_throw();
  ASSERT_TRUE(submit(array({"after the copy"})).ok());
  v1::WorkerMessage late;
  {
    Session worker(channel(), registration());
    late = ends_of(worker.next(v1::MasterMessage::kGrantTasks).grant_tasks());
  }
  stop();
  restore_state(folder_.file("copy.db"), state_).value_or_throw();
  start();
  v1::SubmitJobReply another;
  ASSERT_TRUE(submit(array({"another"}), &another).ok());
  Session worker(channel(), registration(2));
  worker.write(late);
  std::vector<std::string> inputs;
  size_t stale = 0;
  while (inputs.size() < 2 || stale < 1) {
    const std::optional<v1::MasterMessage> message = worker.read();
    ASSERT_TRUE(message);
    stale += static_cast<size_t>(message->task_answers().stale_size() +
                                 message->grant_tasks().answers().stale_size());
    if (!message->has_grant_tasks()) continue;
    const v1::WorkerMessage ends = ends_of(message->grant_tasks());
    for (const v1::TaskBatch& batch : message->grant_tasks().batches()) {
      for (const v1::TaskGrant& task : batch.tasks()) inputs.push_back(task.input());
    }
    worker.write(ends);
  }
  EXPECT_THAT(inputs, ::testing::UnorderedElementsAre("first", "another"));
  await_state("j1", v1::JOB_STATE_SUCCEEDED);
  await_state(another.job_id(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(results("j1").at(0).result(), compress("first"));
  EXPECT_EQ(results(another.job_id()).at(0).result(), compress("another"));
}

TEST_F(MasterStateTest, ADamagedInputIsNeverRunAsAnEmptyOne) {
  start();
  ASSERT_TRUE(submit(array({"a", "b"})).ok());
  change("UPDATE inputs SET inputs=x'ffffff'");
  Session worker(channel(), registration(2));
  await_state("j1", v1::JOB_STATE_FAILED);
  EXPECT_THAT(status("j1").reason(), HasSubstr("cannot be read"));
}

TEST_F(MasterStateTest, OneDamagedJobDoesNotKeepTheMasterFromStarting) {
  start();
  for (const char* input : {"a", "b", "c"}) ASSERT_TRUE(submit(array({input})).ok());
  stop();
  change("UPDATE jobs SET record=x'ffffffff' WHERE number=1");
  change("UPDATE jobs SET record=substr(record, 1, 20) WHERE number=2");
  start();
  for (const char* job : {"j1", "j2"}) {
    EXPECT_EQ(status(job).state(), v1::JOB_STATE_FAILED);
    EXPECT_EQ(status(job).failure().failure_class(), v1::FAILURE_CLASS_STATE_DAMAGED);
    EXPECT_THAT(status(job).reason(), HasSubstr("cannot be read"));
  }
  Session worker(channel(), registration());
  worker.write(ends_of(worker.next(v1::MasterMessage::kGrantTasks).grant_tasks()));
  await_state("j3", v1::JOB_STATE_SUCCEEDED);
  v1::SubmitJobReply reply;
  ASSERT_TRUE(submit(array({"d"}), &reply).ok());
  EXPECT_EQ(reply.job_id(), "j4");
}

TEST_F(MasterStateTest, ADamagedResultIsNamedAndTheOthersCome) {
  start();
  ASSERT_TRUE(submit(array({"a", "b", "c"})).ok());
  {
    Session worker(channel(), registration(3));
    for (int ended = 0; ended < 3;) {
      const v1::WorkerMessage ends =
          ends_of(worker.next(v1::MasterMessage::kGrantTasks).grant_tasks());
      ended += ends.tasks_ended().ended_size();
      worker.write(ends);
    }
    await_state("j1", v1::JOB_STATE_SUCCEEDED);
  }
  change("UPDATE results SET result=5 WHERE task=0");
  change("UPDATE results SET file_bytes=77 WHERE task=1");
  const std::vector<v1::TaskResult> given = results("j1");
  ASSERT_EQ(given.size(), 3u);
  EXPECT_THAT(given[0].damaged(), HasSubstr("damaged"));
  EXPECT_THAT(given[1].damaged(), HasSubstr("No such file"));
  EXPECT_EQ(given[2].damaged(), "");
  EXPECT_EQ(given[2].result(), compress("c"));
}

TEST_F(MasterStateTest, FilesOfResultsThatTheDatabaseHasForgottenAreKept) {
  start();
  ASSERT_TRUE(submit(array({"a"})).ok());
  stop();
  for (const char* job : {"1", "9"}) {
    fs::create_directories(state_ + "/results/" + job);
    std::ofstream(state_ + "/results/" + job + "/0.123") << "a result";
    std::ofstream(state_ + "/results/" + job + "/0.124.part") << "half of one";
  }
  start();
  for (const char* job : {"1", "9"}) {
    EXPECT_TRUE(fs::exists(state_ + "/results/" + job + "/0.123")) << job;
    EXPECT_FALSE(fs::exists(state_ + "/results/" + job + "/0.124.part")) << job;
  }
  v1::SubmitJobReply reply;
  ASSERT_TRUE(submit(array({"b"}), &reply).ok());
  EXPECT_EQ(reply.job_id(), "j10") << "nobody's files are taken for another's";
}

TEST_F(MasterStateTest, NulBytesAreRefusedAtSubmission) {
  start();
  const grpc::Status input = submit(array({"a", std::string("b\0c", 3)}));
  EXPECT_EQ(input.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(input.error_message(), HasSubstr("the input of task 1: byte 2 is NUL"));
  grpc::ClientContext context;
  v1::SubmitJobReply reply;
  const auto stream = client_->SubmitArray(&context, &reply);
  v1::SubmitArrayRequest request;
  request.mutable_inputs()->add_inputs("a");
  stream->Write(request);
  request.mutable_inputs()->set_inputs(0, std::string("b\0c", 3));
  stream->Write(request);
  const grpc::Status chunk = stream->Finish();
  EXPECT_EQ(chunk.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(chunk.error_message(), HasSubstr("the input of task 1"));
}

TEST_F(MasterStateTest, ALostWorkerIsForgottenWhenAskedAndAReadyOneIsNot) {
  start();
  const auto forget = [&] {
    grpc::ClientContext context;
    v1::ForgetNodeRequest request;
    request.set_worker_id("w");
    v1::ForgetNodeReply reply;
    return client_->ForgetNode(&context, request, &reply);
  };
  const auto nodes = [&] {
    grpc::ClientContext context;
    v1::ListNodesReply reply;
    EXPECT_TRUE(client_->ListNodes(&context, {}, &reply).ok());
    return reply.nodes_size();
  };
  const auto stub = v1::WorkerService::NewStub(channel());
  grpc::ClientContext context;
  const auto stream = stub->Session(&context);
  v1::WorkerMessage message;
  *message.mutable_register_() = registration();
  stream->Write(message);
  v1::MasterMessage told;
  ASSERT_TRUE(stream->Read(&told));
  EXPECT_EQ(forget().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  stream->WritesDone();
  while (stream->Read(&told)) {
  }
  ASSERT_TRUE(stream->Finish().ok());
  ASSERT_TRUE(eventually([&] { return forget().ok(); }));
  EXPECT_EQ(nodes(), 0);
  stop();
  start();
  EXPECT_EQ(nodes(), 0);
}

// A small disk of its own.
class FullDiskTest : public MasterStateTest {
 protected:
  FullDiskTest() {
    mount_ = folder_.file("disk");
    fs::create_directory(mount_);
    mounted_ = ::mount("tmpfs", mount_.c_str(), "tmpfs", 0, "size=4m") == 0;
    state_ = mount_ + "/state";
  }
  ~FullDiskTest() override {
    stop();
    if (mounted_) ::umount(mount_.c_str());
  }
  void SetUp() override {
    if (!mounted_) GTEST_SKIP() << "mounting a tmpfs needs root";
  }
  void fill() const {
    std::ofstream file(mount_ + "/filler", std::ios::binary);
    while (file << std::string(4096, 'x') << std::flush) {
    }
  }
  void make_room() const { fs::remove(mount_ + "/filler"); }

  std::string mount_;
  bool mounted_ = false;
};

TEST_F(FullDiskTest, AMasterIsStartedOnItAndGoesOnWhenThereIsRoom) {
  start();
  ASSERT_TRUE(submit(array({"a"})).ok());
  stop();
  fill();
  start();
  EXPECT_EQ(status("j1").state(), v1::JOB_STATE_PENDING) << "what is there can be asked for";
  ASSERT_TRUE(eventually(
      [&] { return submit(array({"b"})).error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED; }));
  make_room();
  Session worker(channel(), registration());
  worker.write(ends_of(worker.next(v1::MasterMessage::kGrantTasks).grant_tasks()));
  await_state("j1", v1::JOB_STATE_SUCCEEDED);
}

// The disk fills between the check and the write: whoever waits hears so, and the job does not run.
TEST_F(FullDiskTest, ASubmissionUnderWayIsRefusedSoonAndDoesNotRunLater) {
  start();
  Session worker(channel(), registration());
  (void)worker.next(v1::MasterMessage::kRegistered);
  fill();
  const grpc::Status refused = submit(array({std::string(100'000, 'x')}));
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.error_message();
  make_room();
  ASSERT_TRUE(eventually([&] { return submit(array({"b"})).ok(); }));
  const v1::GrantTasks grant = worker.next(v1::MasterMessage::kGrantTasks).grant_tasks();
  EXPECT_EQ(grant.batches(0).tasks(0).input(), "b");
  worker.write(ends_of(grant));
  await_state(grant.job_id(), v1::JOB_STATE_SUCCEEDED);
}

// Whoever repeats a submission that is on disk is answered or refused, and the job stays.
TEST_F(FullDiskTest, ARepeatedSubmissionThatIsRefusedUndoesNothing) {
  start();
  v1::SubmitJobRequest kept = array({"a"});
  kept.set_submission_key("key");
  ASSERT_TRUE(submit(kept).ok());
  fill();
  // Others' batches are under way when the repeated calls come, which hang on them.
  constexpr int kCallers = 8;
  std::vector<std::future<void>> callers;
  callers.reserve(kCallers);
  for (int i = 0; i < kCallers; ++i) {
    callers.push_back(std::async(std::launch::async, [&, i] {
      (void)submit(i % 2 == 0 ? array({std::string(100'000, 'x')}) : kept);
    }));
  }
  for (std::future<void>& caller : callers) caller.get();
  make_room();
  ASSERT_TRUE(eventually([&] { return submit(array({"b"})).ok(); }));
  EXPECT_EQ(status("j1").state(), v1::JOB_STATE_PENDING) << status("j1").reason();
}

// A worker that comes while the disk is full hears that the master lives, and stays.
TEST_F(FullDiskTest, AWorkerThatRegistersMeanwhileIsKept) {
  start();
  fill();
  (void)submit(array({std::string(100'000, 'x')}));
  Session worker(channel(), registration());
  for (int heard = 0; heard < 2; ++heard) (void)worker.next(v1::MasterMessage::kKeepAlive);
  make_room();
  (void)worker.next(v1::MasterMessage::kRegistered);
}

}  // namespace
}  // namespace longhaul::testing
