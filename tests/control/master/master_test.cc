// A real master on a real port; the workers are played by the test.
#include "control/master/master.h"

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "longhaul/base/strings.h"
#include "rpc/credentials.h"
#include "tests/support/temp_dir.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// No test waits longer for anything.
std::chrono::system_clock::time_point limit() {
  return std::chrono::system_clock::now() + std::chrono::seconds(60);
}

std::unique_ptr<Master> start_master(milliseconds lease = milliseconds(60'000),
                                     size_t output_bytes = size_t{16} << 20) {
  MasterOptions options;
  options.listen = "127.0.0.1:0";
  options.core.cluster.workers.lease = lease;
  options.core.cluster.workers.heartbeat_interval = lease / 5;
  options.core.output.bytes_per_job = output_bytes;
  return std::move(Master::start(options)).value_or_throw();
}

class FakeWorker {
 public:
  FakeWorker(const std::string& master, const std::string& id, uint32_t slots,
             const std::string& incarnation = "first",
             const std::vector<v1::Inventory>& inventory = {})
      : stub_(v1::WorkerService::NewStub(grpc::CreateChannel(master, plain_text().dialing()))) {
    context_.set_deadline(limit());
    stream_ = stub_->Session(&context_);
    v1::WorkerMessage message;
    v1::Register* registration = message.mutable_register_();
    registration->set_worker_id(id);
    registration->set_incarnation(id + incarnation);
    registration->set_host("host-" + id);
    registration->set_address("127.0.0.1");
    registration->set_slots(slots);
    for (const v1::Inventory& launch : inventory) *registration->add_inventory() = launch;
    stream_->Write(message);
    registered = next(v1::MasterMessage::kRegistered).registered();
  }
  ~FakeWorker() { cut(); }

  // The next message of this kind; what comes before it is dropped. Empty when the stream has
  // ended.
  v1::MasterMessage next(v1::MasterMessage::MessageCase kind) {
    v1::MasterMessage message;
    while (stream_->Read(&message)) {
      if (message.message_case() == kind) return message;
    }
    ADD_FAILURE() << "the stream ended";
    return {};
  }
  void prepare(const std::string& error = "") {
    const v1::Prepare asked = next(v1::MasterMessage::kPrepare).prepare();
    v1::WorkerMessage message;
    message.mutable_prepared()->set_job_id(asked.job_id());
    message.mutable_prepared()->set_generation(asked.generation());
    message.mutable_prepared()->set_life(asked.life());
    message.mutable_prepared()->set_error(error);
    message.mutable_prepared()->set_port(asked.want_port() ? 29'500 : 0);
    stream_->Write(message);
  }
  v1::Launch launch() {
    prepare();
    launched = next(v1::MasterMessage::kLaunch).launch();
    return launched;
  }
  v1::WorkerMessage about(uint32_t rank) const {
    v1::WorkerMessage message;
    message.mutable_rank_event()->set_job_id(launched.job_id());
    message.mutable_rank_event()->set_generation(launched.generation());
    message.mutable_rank_event()->set_life(launched.life());
    message.mutable_rank_event()->set_rank(rank);
    return message;
  }
  void exits(uint32_t rank, int code, int signal = 0, bool by_us = false) {
    v1::WorkerMessage message = about(rank);
    v1::RankExited* exited = message.mutable_rank_event()->mutable_exited();
    exited->set_exit_code(signal != 0 ? 128 + signal : code);
    exited->set_signal(signal);
    exited->set_stopped_by_us(by_us);
    exited->add_last_lines("last words");
    stream_->Write(message);
  }
  void say(const v1::WorkerMessage& message) { stream_->Write(message); }
  void prints(uint32_t rank, uint64_t offset, const std::string& text) {
    v1::WorkerMessage message;
    message.mutable_rank_output()->set_job_id(launched.job_id());
    message.mutable_rank_output()->set_generation(launched.generation());
    message.mutable_rank_output()->set_life(launched.life());
    v1::Output* output = message.mutable_rank_output()->mutable_output();
    output->set_rank(rank);
    output->set_stream(v1::OUTPUT_STREAM_STDOUT);
    output->set_offset(offset);
    output->set_data(text);
    stream_->Write(message);
  }
  v1::StoreReply store(uint64_t call, const v1::StoreRequest& request) {
    v1::WorkerMessage message;
    message.mutable_store_call()->set_call_id(call);
    message.mutable_store_call()->set_job_id(launched.job_id());
    message.mutable_store_call()->set_generation(launched.generation());
    message.mutable_store_call()->set_life(launched.life());
    *message.mutable_store_call()->mutable_request() = request;
    stream_->Write(message);
    return next(v1::MasterMessage::kStoreAnswer).store_answer().reply();
  }
  void beat(uint64_t sequence) {
    v1::WorkerMessage message;
    message.mutable_heartbeat()->set_sequence(sequence);
    stream_->Write(message);
    EXPECT_EQ(next(v1::MasterMessage::kHeartbeat).heartbeat().sequence(), sequence);
  }
  void cut() { context_.TryCancel(); }
  grpc::Status say_goodbye() {
    stream_->WritesDone();
    v1::MasterMessage message;
    while (stream_->Read(&message)) {
    }
    return stream_->Finish();
  }

  v1::Registered registered;
  v1::Launch launched;

 private:
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::MasterMessage>> stream_;
};

class MasterTest : public ::testing::Test {
 protected:
  void connect(std::unique_ptr<Master> master) {
    master_ = std::move(master);
    jobs_ =
        v1::JobService::NewStub(grpc::CreateChannel(master_->address(), plain_text().dialing()));
  }
  std::string submit(uint32_t ranks, const std::string& name = "", uint32_t max_restarts = 0) {
    grpc::ClientContext context;
    context.set_deadline(limit());
    v1::SubmitJobRequest request;
    request.mutable_spec()->add_command("./train");
    request.mutable_spec()->set_ranks(ranks);
    request.mutable_spec()->set_name(name);
    request.mutable_spec()->set_max_restarts(max_restarts);
    v1::SubmitJobReply reply;
    const grpc::Status status = jobs_->SubmitJob(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply.job_id();
  }
  grpc::Status get(const std::string& job, v1::JobStatus* found) {
    grpc::ClientContext context;
    context.set_deadline(limit());
    v1::GetJobRequest request;
    request.set_job(job);
    v1::GetJobReply reply;
    const grpc::Status status = jobs_->GetJob(&context, request, &reply);
    *found = reply.status();
    return status;
  }
  // Watches until the stream ends; returns the last status.
  v1::JobStatus watch_to_end(const std::string& job, std::string* output = nullptr,
                             uint64_t* dropped = nullptr) {
    grpc::ClientContext context;
    context.set_deadline(limit());
    v1::WatchJobRequest request;
    request.set_job(job);
    request.set_output(output != nullptr);
    request.set_from_start(true);
    request.set_follow(true);
    const auto reader = jobs_->WatchJob(&context, request);
    v1::WatchJobEvent event;
    v1::JobStatus last;
    while (reader->Read(&event)) {
      if (event.has_status()) last = event.status();
      if (event.has_output()) *output += event.output().data();
      if (dropped != nullptr) *dropped += event.output_dropped_bytes();
    }
    const grpc::Status status = reader->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return last;
  }
  grpc::Status drain(const std::string& worker, bool undo = false) {
    grpc::ClientContext context;
    context.set_deadline(limit());
    v1::DrainNodeRequest request;
    request.set_worker_id(worker);
    request.set_undo(undo);
    v1::DrainNodeReply reply;
    return jobs_->DrainNode(&context, request, &reply);
  }
  // What comes until the stream ends, and how it ends.
  std::vector<v1::Event> events_of(const v1::WatchEventsRequest& request,
                                   grpc::StatusCode end = grpc::StatusCode::OK) {
    grpc::ClientContext context;
    context.set_deadline(limit());
    const auto reader = jobs_->WatchEvents(&context, request);
    std::vector<v1::Event> events;
    for (v1::Event event; reader->Read(&event);) events.push_back(event);
    EXPECT_EQ(reader->Finish().error_code(), end);
    return events;
  }
  std::vector<v1::Node> nodes() {
    grpc::ClientContext context;
    context.set_deadline(limit());
    v1::ListNodesReply reply;
    EXPECT_TRUE(jobs_->ListNodes(&context, {}, &reply).ok());
    return {reply.nodes().begin(), reply.nodes().end()};
  }

  std::unique_ptr<Master> master_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
};

TEST_F(MasterTest, AJobOverTwoWorkersRunsToSuccess) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 2);
  FakeWorker b(master_->address(), "gpu-b", 2);
  const std::string job = submit(4, "story");
  a.prepare();
  b.prepare();
  a.launched = a.next(v1::MasterMessage::kLaunch).launch();
  b.launched = b.next(v1::MasterMessage::kLaunch).launch();
  EXPECT_THAT(a.launched.ranks(), ElementsAre(0, 1));
  EXPECT_THAT(b.launched.ranks(), ElementsAre(2, 3));
  EXPECT_EQ(b.launched.master_port(), 29'500U);

  v1::StoreRequest request;
  request.set_operation(v1::StoreRequest::SET);
  request.add_keys("k");
  request.add_values(std::string("\0\xff", 2));
  EXPECT_EQ(a.store(1, request).error(), "");
  request.set_operation(v1::StoreRequest::GET);
  request.clear_values();
  EXPECT_EQ(b.store(1, request).value(), std::string("\0\xff", 2));
  b.beat(17);

  a.prints(0, 0, "hello ");
  a.prints(0, 6, "world\n");
  a.prints(0, 6, "world\n");  // sent again: not shown again
  EXPECT_EQ(a.next(v1::MasterMessage::kOutputAck).output_ack().bytes(), 6U);
  for (const uint32_t rank : {0, 1}) a.exits(rank, 0);
  for (const uint32_t rank : {2, 3}) b.exits(rank, 0);
  std::string output;
  const v1::JobStatus status = watch_to_end(job, &output);
  EXPECT_EQ(status.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(output, "hello world\n");
  v1::JobStatus by_name;
  EXPECT_TRUE(get("story", &by_name).ok());
  EXPECT_EQ(by_name.job_id(), job);
}

TEST_F(MasterTest, AFailedRankIsReportedAndTheOthersAreStopped) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 2);
  const std::string job = submit(2);
  a.launch();
  a.exits(1, 0, SIGSEGV);
  EXPECT_THAT(a.next(v1::MasterMessage::kStopRanks).stop_ranks().reason(), HasSubstr("SIGSEGV"));
  a.exits(0, 0, SIGTERM, /*by_us=*/true);
  const v1::JobStatus status = watch_to_end(job);
  EXPECT_EQ(status.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(status.exit_code(), 139);
  EXPECT_EQ(status.failure().failure_class(), v1::FAILURE_CLASS_SIGNAL);
  EXPECT_EQ(status.failure().rank(), 1U);
  EXPECT_EQ(status.failure().host(), "host-gpu-a");
  EXPECT_THAT(status.failure().last_lines(), ElementsAre("last words"));
  EXPECT_THAT(status.failure().victims(), ElementsAre(0));
}

TEST_F(MasterTest, AWorkerThatCannotStartTheProgramIsNamed) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 1);
  const std::string job = submit(1);
  a.prepare("./train: permission denied");
  const v1::JobStatus status = watch_to_end(job);
  EXPECT_EQ(status.failure().failure_class(), v1::FAILURE_CLASS_LAUNCH);
  EXPECT_THAT(status.reason(), HasSubstr("worker gpu-a cannot start"));
}

TEST_F(MasterTest, ACutWorkerIsLostWhenItsLeaseIsOver) {
  connect(start_master(milliseconds(1000)));
  FakeWorker a(master_->address(), "gpu-a", 1);
  const std::string job = submit(1);
  a.launch();
  a.cut();
  const v1::JobStatus status = watch_to_end(job);
  EXPECT_EQ(status.failure().failure_class(), v1::FAILURE_CLASS_WORKER_LOST);
  EXPECT_EQ(status.failure().worker_id(), "gpu-a");
  EXPECT_EQ(nodes().at(0).state(), v1::NODE_STATE_LOST);
}

TEST_F(MasterTest, ACutWorkerThatComesBackGoesOn) {
  connect(start_master());
  auto a = std::make_unique<FakeWorker>(master_->address(), "gpu-a", 1);
  const std::string job = submit(1);
  const v1::Launch launch = a->launch();
  a->cut();
  FakeWorker again(master_->address(), "gpu-a", 1);
  EXPECT_EQ(again.registered.worker_id(), "gpu-a");
  again.launched = launch;
  again.exits(0, 0);
  EXPECT_EQ(watch_to_end(job).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(MasterTest, AWorkerThatSaysGoodbyeIsGoneAtOnce) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 1);
  const std::string job = submit(1);
  a.launch();
  EXPECT_TRUE(a.say_goodbye().ok());
  EXPECT_EQ(watch_to_end(job).failure().failure_class(), v1::FAILURE_CLASS_PREEMPTED);
}

TEST_F(MasterTest, TwoWorkersOfOneName) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu", 1);
  FakeWorker b(master_->address(), "gpu", 1, "second");
  EXPECT_EQ(a.registered.worker_id(), "gpu");
  EXPECT_EQ(b.registered.worker_id(), "gpu-2");
  EXPECT_EQ(nodes().size(), 2U);
}

TEST_F(MasterTest, AWorkerWithoutSlotsIsRefused) {
  connect(start_master());
  const auto stub =
      v1::WorkerService::NewStub(grpc::CreateChannel(master_->address(), plain_text().dialing()));
  grpc::ClientContext context;
  context.set_deadline(limit());
  const auto stream = stub->Session(&context);
  v1::WorkerMessage message;
  message.mutable_register_()->set_incarnation("x");
  stream->Write(message);
  v1::MasterMessage answer;
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_THAT(answer.refused().reason(), HasSubstr("slots"));
  EXPECT_FALSE(stream->Read(&answer));
  EXPECT_FALSE(stream->Finish().ok());
}

// A watcher that does not read: the job, its worker and other watchers go on, and it is told what
// it has missed.
TEST_F(MasterTest, ASlowWatcherHoldsNobodyUp) {
  constexpr size_t kKept = size_t{1} << 20;
  connect(start_master(milliseconds(60'000), kKept));
  FakeWorker a(master_->address(), "gpu-a", 1);
  const std::string job = submit(1);
  a.launch();

  grpc::ClientContext context;
  context.set_deadline(limit());
  v1::WatchJobRequest request;
  request.set_job(job);
  request.set_output(true);
  request.set_from_start(true);
  request.set_follow(true);
  const auto slow = jobs_->WatchJob(&context, request);
  v1::WatchJobEvent event;
  ASSERT_TRUE(slow->Read(&event));  // its status; then it reads no more for a long time

  const std::string chunk(64 << 10, 'x');
  constexpr uint64_t kChunks = 400;
  for (uint64_t i = 0; i < kChunks; ++i) {
    a.prints(0, i * chunk.size(), chunk);
    EXPECT_EQ(a.next(v1::MasterMessage::kOutputAck).output_ack().bytes(), (i + 1) * chunk.size());
  }
  a.exits(0, 0);
  std::string kept;
  uint64_t dropped = 0;
  EXPECT_EQ(watch_to_end(job, &kept, &dropped).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_LE(kept.size(), kKept);
  EXPECT_EQ(kept.size() + dropped, kChunks * chunk.size());

  uint64_t seen = 0;
  uint64_t missed = 0;
  v1::JobState last = v1::JOB_STATE_UNSPECIFIED;
  while (slow->Read(&event)) {
    if (event.has_output()) seen += event.output().data().size();
    missed += event.output_dropped_bytes();
    if (event.has_status()) last = event.status().state();
  }
  EXPECT_TRUE(slow->Finish().ok());
  EXPECT_EQ(seen + missed, kChunks * chunk.size());
  EXPECT_GT(missed, 0U);
  EXPECT_EQ(last, v1::JOB_STATE_SUCCEEDED);
}

TEST_F(MasterTest, LogsOfARunningJobEndWithoutFollow) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 2);
  const std::string job = submit(2);
  a.launch();
  a.prints(0, 0, "zero\n");
  a.prints(1, 0, "one\n");
  a.beat(1);
  grpc::ClientContext context;
  context.set_deadline(limit());
  v1::WatchJobRequest request;
  request.set_job("last");
  request.set_output(true);
  request.set_from_start(true);
  request.add_only_ranks(1);
  const auto reader = jobs_->WatchJob(&context, request);
  std::string output;
  for (v1::WatchJobEvent event; reader->Read(&event);) output += event.output().data();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(output, "one\n");
}

v1::Inventory launch_of(const std::string& job, uint64_t generation, uint64_t life) {
  v1::Inventory launch;
  launch.set_job_id(job);
  launch.set_generation(generation);
  launch.set_life(life);
  return launch;
}

TEST_F(MasterTest, WhatAnAttemptHasPrintedMayComeLate) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 1);
  const std::string job = submit(1, "", /*max_restarts=*/1);
  const v1::Launch first = a.launch();
  a.prints(0, 0, "one\n");
  a.exits(0, 1);
  const v1::Launch second = a.launch();
  a.prints(0, 0, "second attempt\n");
  a.launched = first;
  a.prints(0, 0, "one\ntwo\n");
  while (true) {
    const v1::OutputAck ack = a.next(v1::MasterMessage::kOutputAck).output_ack();
    if (ack.generation() == first.generation() && ack.bytes() >= 12) break;
  }
  a.launched = second;
  a.exits(0, 0);
  std::string output;
  EXPECT_EQ(watch_to_end(job, &output).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(output, "one\nsecond attempt\ntwo\n");

  a.launched = first;
  a.prints(0, 4, "two\nthree\n");
  a.beat(1);
  output.clear();
  EXPECT_EQ(watch_to_end(job, &output).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(output, "one\nsecond attempt\ntwo\nthree\n");
}

TEST_F(MasterTest, WhatCameLateIsKeptOnceAcrossARestart) {
  const testing::TempDir folder;
  MasterOptions options;
  options.listen = "127.0.0.1:0";
  options.state_folder = folder.file("state");
  const auto restart = [&] {
    jobs_.reset();
    master_.reset();
    connect(std::move(Master::start(options)).value_or_throw());
  };
  restart();
  std::string job;
  v1::Launch launched;
  {
    FakeWorker a(master_->address(), "gpu-a", 1);
    job = submit(1);
    launched = a.launch();
    a.prints(0, 0, "one\n");
    a.exits(0, 0);
    EXPECT_EQ(watch_to_end(job).state(), v1::JOB_STATE_SUCCEEDED);
  }
  for (const char* text : {"two\n", "two\nthree\n"}) {
    restart();
    FakeWorker a(master_->address(), "gpu-a", 1, "first",
                 {launch_of(job, 1, launched.life()), launch_of("j99", 1, launched.life())});
    a.launched = launched;
    std::map<std::string, bool> wanted;
    for (const v1::Inventory& one : a.registered.unknown()) {
      wanted[one.job_id()] = one.output_wanted();
    }
    EXPECT_EQ(wanted, (std::map<std::string, bool>{{job, true}, {"j99", false}}));
    a.prints(0, 4, text);
    a.beat(1);
  }
  restart();
  std::string output;
  EXPECT_EQ(watch_to_end(job, &output).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(output, "one\ntwo\nthree\n");
}

TEST_F(MasterTest, LateOutputSharesTheRoomOfEndedJobs) {
  constexpr size_t kRoom = size_t{1} << 20;
  MasterOptions options;
  options.listen = "127.0.0.1:0";
  options.core.output.bytes_of_ended_jobs = kRoom;
  connect(std::move(Master::start(options)).value_or_throw());
  FakeWorker a(master_->address(), "gpu-a", 1);
  const std::string job = submit(1);
  a.launch();
  a.exits(0, 0);
  EXPECT_EQ(watch_to_end(job).state(), v1::JOB_STATE_SUCCEEDED);
  const std::string chunk(64 << 10, 'x');
  uint64_t printed = 0;
  for (; printed <= 2 * kRoom; printed += chunk.size()) {
    a.prints(0, printed, chunk);
    a.next(v1::MasterMessage::kOutputAck);
  }
  a.beat(1);
  std::string kept;
  uint64_t dropped = 0;
  watch_to_end(job, &kept, &dropped);
  EXPECT_LE(kept.size(), kRoom);
  EXPECT_EQ(kept.size() + dropped, printed);
}

TEST_F(MasterTest, UnknownJobsAndBadSpecsGetClearAnswers) {
  connect(start_master());
  v1::JobStatus found;
  EXPECT_THAT(get("nope", &found).error_message(), HasSubstr("no job 'nope'"));
  grpc::ClientContext context;
  context.set_deadline(limit());
  v1::SubmitJobReply reply;
  EXPECT_EQ(jobs_->SubmitJob(&context, {}, &reply).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  grpc::ClientContext watching;
  watching.set_deadline(limit());
  v1::WatchJobRequest request;
  request.set_job("nope");
  const auto reader = jobs_->WatchJob(&watching, request);
  v1::WatchJobEvent event;
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(MasterTest, ADrainedWorkerGetsNothingNewAndItIsExplained) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 2);
  EXPECT_EQ(drain("gpu-x").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  ASSERT_TRUE(drain("gpu-a").ok());
  EXPECT_TRUE(nodes().at(0).drained());
  const std::string job = submit(2);
  grpc::ClientContext context;
  context.set_deadline(limit());
  v1::ExplainJobRequest request;
  request.set_job(job);
  v1::ExplainJobReply reply;
  ASSERT_TRUE(jobs_->ExplainJob(&context, request, &reply).ok());
  EXPECT_EQ(reply.state(), v1::JOB_STATE_PENDING);
  EXPECT_THAT(reply.reason(), HasSubstr("drained"));
  ASSERT_EQ(reply.nodes_size(), 1);
  EXPECT_THAT(reply.nodes(0).verdict(), HasSubstr("drained"));
  ASSERT_TRUE(drain("gpu-a", /*undo=*/true).ok());
  a.prepare();
}

TEST_F(MasterTest, TheJournalTellsAJobsLifeInOrder) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 1);
  const std::string job = submit(1);
  a.launch();
  a.exits(0, 3);
  v1::WatchEventsRequest request;
  request.set_job(job);
  request.set_follow(true);  // until the job has ended
  const std::vector<v1::Event> events = events_of(request);
  std::vector<v1::EventKind> kinds;
  kinds.reserve(events.size());
  for (const v1::Event& event : events) kinds.push_back(event.kind());
  EXPECT_THAT(kinds, ElementsAre(v1::EVENT_KIND_JOB_SUBMITTED, v1::EVENT_KIND_JOB_PLACED,
                                 v1::EVENT_KIND_JOB_STARTED, v1::EVENT_KIND_JOB_STOPPING,
                                 v1::EVENT_KIND_JOB_ENDED));
  EXPECT_EQ(events.back().rank(), 0U);
  EXPECT_EQ(events.back().worker_id(), "gpu-a");
  EXPECT_THAT(events.back().text(), HasSubstr("exited with code 3"));

  v1::WatchEventsRequest all;
  const std::vector<v1::Event> whole = events_of(all);
  ASSERT_GE(whole.size(), 7U);
  EXPECT_EQ(whole[0].kind(), v1::EVENT_KIND_MASTER_STARTED);
  EXPECT_EQ(whole[1].kind(), v1::EVENT_KIND_WORKER_REGISTERED);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(whole[i].number(), i + 1);
  all.set_worker_id("gpu-z");
  EXPECT_THAT(events_of(all, grpc::StatusCode::INVALID_ARGUMENT), IsEmpty());
}

TEST_F(MasterTest, LogsOfAnAttemptThatWasNotAreRefused) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 1);
  v1::WatchJobRequest request;
  request.set_job(submit(1));
  request.set_output(true);
  request.set_attempt(2);
  grpc::ClientContext context;
  context.set_deadline(limit());
  const auto reader = jobs_->WatchJob(&context, request);
  v1::WatchJobEvent event;
  EXPECT_FALSE(reader->Read(&event));
  EXPECT_THAT(reader->Finish().error_message(), HasSubstr("has had 1 attempt"));
}

TEST_F(MasterTest, ACleanEndStopsJobsAndSendsEverybodyHome) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 1);
  const std::string job = submit(1);
  a.launch();
  Thread worker("fake-worker", [&] {
    a.next(v1::MasterMessage::kStopRanks);
    a.exits(0, 0, SIGTERM, /*by_us=*/true);
  });
  EXPECT_TRUE(master_->shut_down(milliseconds(30'000)));
  worker.join();
}

TEST_F(MasterTest, ADeadMasterLeavesNothingHanging) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 1);
  submit(1);
  a.launch();
  master_.reset();
  EXPECT_FALSE(a.say_goodbye().ok());
}

// --- Nobody says megabytes -----------------------------------------------------------------------

TEST_F(MasterTest, AListComesInPagesAndLeavesOutWhatIsLong) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 1);
  constexpr int kJobs = 40;
  for (int i = 0; i < kJobs; ++i) {
    grpc::ClientContext context;
    v1::SubmitJobRequest request;
    request.mutable_spec()->add_command("./train");
    for (int word = 0; word < 18; ++word) {
      request.mutable_spec()->add_command(std::string(100'000, 'x'));
    }
    (*request.mutable_spec()->mutable_env())["LONG"] = std::string(100'000, 'y');
    request.mutable_spec()->set_ranks(1);
    v1::SubmitJobReply reply;
    const grpc::Status status = jobs_->SubmitJob(&context, request, &reply);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  std::vector<std::string> listed;
  v1::ListJobsRequest request;
  request.set_include_ended(true);
  for (bool more = true; more;) {
    grpc::ClientContext context;
    v1::ListJobsReply page;
    ASSERT_TRUE(jobs_->ListJobs(&context, request, &page).ok());
    EXPECT_LT(page.ByteSizeLong(), size_t{2} << 20);
    for (const v1::JobStatus& job : page.jobs()) {
      listed.push_back(job.job_id());
      EXPECT_LT(job.ByteSizeLong(), 16'000U);
      EXPECT_EQ(job.spec().command(0), "./train");
      EXPECT_EQ(job.spec().command().rbegin()[0], "...");
      EXPECT_TRUE(job.spec().env().empty());
    }
    more = page.more();
    request.set_after(listed.back());
  }
  ASSERT_EQ(listed.size(), static_cast<size_t>(kJobs));
  for (int i = 0; i < kJobs; ++i) EXPECT_EQ(listed[static_cast<size_t>(i)], str_cat("j", i + 1));
  v1::JobStatus whole;
  ASSERT_TRUE(get("j7", &whole).ok());
  EXPECT_EQ(whole.spec().command_size(), 19);
}

TEST_F(MasterTest, ACommandThatNoProgramCouldTakeIsRefused) {
  connect(start_master());
  grpc::ClientContext context;
  v1::SubmitJobRequest request;
  request.mutable_spec()->add_command("./train");
  for (int word = 0; word < 25; ++word) {
    request.mutable_spec()->add_command(std::string(100'000, 'x'));
  }
  request.mutable_spec()->set_ranks(1);
  v1::SubmitJobReply reply;
  const grpc::Status status = jobs_->SubmitJob(&context, request, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("is the most: put what is long into a file"));
}

TEST_F(MasterTest, WhatARankSaysIsCutEvenIfItsWorkerDidNot) {
  connect(start_master());
  FakeWorker a(master_->address(), "gpu-a", 2);
  const std::string job = submit(2);
  a.launch();
  const std::string novel(size_t{40} << 20, 'n');
  v1::WorkerMessage said = a.about(0);
  said.mutable_rank_event()->mutable_progress()->set_codec(novel);
  a.say(said);
  said = a.about(0);
  said.mutable_rank_event()->mutable_fault()->set_kind("internal");
  said.mutable_rank_event()->mutable_fault()->set_message(novel);
  a.say(said);
  said = a.about(0);
  said.mutable_rank_event()->mutable_exited()->set_exit_code(1);
  said.mutable_rank_event()->mutable_exited()->add_last_lines(novel);
  a.say(said);
  a.exits(1, 0, SIGTERM, /*by_us=*/true);
  const v1::JobStatus status = watch_to_end(job);
  EXPECT_EQ(status.state(), v1::JOB_STATE_FAILED);
  EXPECT_LT(status.ByteSizeLong(), 64'000U);
  EXPECT_THAT(status.failure().message(), HasSubstr("bytes left out]"));
}

TEST(Master, TwoOnOnePortIsAnError) {
  const auto first = start_master();
  MasterOptions options;
  options.listen = first->address();
  const auto second = Master::start(options);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.failure().message, HasSubstr(first->address()));
}

TEST(Master, AnAddressNeedsAPort) {
  MasterOptions options;
  options.listen = "localhost";
  EXPECT_EQ(Master::start(options).failure().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace longhaul
