// JobClient against a master that a test plays by hand.
#include <gmock/gmock.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <sys/socket.h>

#include "base/thread.h"
#include "base/unique_fd.h"
#include "control/client/job_client.h"
#include "control/convert/compression.h"
#include "control/convert/job_proto.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"
#include "longhaul/v1/job_service.grpc.pb.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;

constexpr milliseconds kSoon{20'000};

class HandMaster final : public v1::JobService::Service {
 public:
  HandMaster() { start(); }
  ~HandMaster() override { stop(); }

  void stop() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  // On the port that it had before, if any.
  void start() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address(), grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  grpc::Status SubmitJob(grpc::ServerContext*, const v1::SubmitJobRequest* request,
                         v1::SubmitJobReply* reply) override {
    submitted = *request;
    reply->set_job_id("j1");
    return grpc::Status::OK;
  }
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest* request,
                      v1::GetJobReply* reply) override {
    if (request->job() == "refused") return refusal;
    if (request->job() != "j1" && request->job() != "last")
      return {grpc::StatusCode::NOT_FOUND, "no job 'j9'"};
    reply->mutable_status()->set_job_id("j1");
    return grpc::Status::OK;
  }
  // The first answer of each of these is lost, and "last" is another job by then.
  grpc::Status StopJob(grpc::ServerContext*, const v1::StopJobRequest* request,
                       v1::StopJobReply* reply) override {
    stopped.push_back(request->job());
    reply->mutable_status()->set_job_id(request->job());
    if (stopped.size() > 1) return grpc::Status::OK;
    return {grpc::StatusCode::UNAVAILABLE, "the connection broke"};
  }
  grpc::Status ForgetNode(grpc::ServerContext*, const v1::ForgetNodeRequest* request,
                          v1::ForgetNodeReply*) override {
    if (std::exchange(forgotten, request->worker_id()).empty()) {
      return {grpc::StatusCode::UNAVAILABLE, "the connection broke"};
    }
    return {grpc::StatusCode::INVALID_ARGUMENT, "no worker"};
  }
  grpc::Status ListNodes(grpc::ServerContext*, const v1::ListNodesRequest*,
                         v1::ListNodesReply* reply) override {
    v1::Node* node = reply->add_nodes();
    node->set_worker_id("w");
    node->set_state(v1::NODE_STATE_UNREACHABLE);
    node->set_slots(4);
    return grpc::Status::OK;
  }
  grpc::Status ExplainJob(grpc::ServerContext*, const v1::ExplainJobRequest* request,
                          v1::ExplainJobReply* reply) override {
    reply->set_job_id(request->job());
    reply->set_state(v1::JOB_STATE_PENDING);
    reply->set_reason("it waits");
    reply->add_help("wait too");
    v1::ExplainedNode* node = reply->add_nodes();
    node->set_worker_id("w");
    node->set_free(3);
    v1::ExplainedJob* ahead = reply->add_ahead();
    ahead->set_job_id("j0");
    ahead->set_state(v1::JOB_STATE_RUNNING);
    ahead->set_slots_held(2);
    return grpc::Status::OK;
  }
  grpc::Status DrainNode(grpc::ServerContext*, const v1::DrainNodeRequest* request,
                         v1::DrainNodeReply* reply) override {
    reply->mutable_node()->set_worker_id(request->worker_id());
    reply->mutable_node()->set_drained(!request->undo());
    return grpc::Status::OK;
  }
  grpc::Status WatchEvents(grpc::ServerContext* context, const v1::WatchEventsRequest* request,
                           grpc::ServerWriter<v1::Event>* writer) override {
    v1::Event event;
    for (uint64_t number = request->after_number() + 1; number <= 3; ++number) {
      event.set_number(number);
      event.set_kind(v1::EVENT_KIND_WORKER_LOST);
      event.set_worker_id(request->worker_id());
      if (number == 3) event.set_rank(7);
      writer->Write(event);
    }
    while (request->follow() && !context->IsCancelled()) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext* context, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::WatchJobEvent>* writer) override {
    v1::WatchJobEvent event;
    event.mutable_status()->set_job_id(request->job());
    writer->Write(event);
    for (uint64_t i = 0; i < output_pieces; ++i) {
      event.mutable_output()->set_rank(1);
      event.mutable_output()->set_offset(i * 65536);
      event.mutable_output()->set_data(std::string(65536, 'x'));
      if (!writer->Write(event)) return grpc::Status::CANCELLED;
      MutexLock lock(mutex);
      ++written;
    }
    if (!end_watch) {
      while (!context->IsCancelled()) std::this_thread::sleep_for(milliseconds(5));
    }
    return grpc::Status::OK;
  }
  // Results of three tasks, two pieces each. All but the last time it breaks off after the second
  // task's first piece.
  grpc::Status GetResults(grpc::ServerContext*, const v1::GetResultsRequest* request,
                          grpc::ServerWriter<v1::TaskResult>* writer) override {
    for (uint32_t task = request->first_task(); task < 3; ++task) {
      for (const bool more : {true, false}) {
        v1::TaskResult message;
        message.set_task(task);
        message.set_result(compress_piece(str_cat(task, more ? "first" : "second")));
        message.set_result_bytes(13);
        message.set_more(more);
        writer->Write(message);
        if (task == 1 && more && results_break-- > 0) return {grpc::StatusCode::UNAVAILABLE, ""};
      }
    }
    return grpc::Status::OK;
  }

  grpc::Status refusal;
  v1::SubmitJobRequest submitted;
  std::vector<std::string> stopped;
  std::string forgotten;
  uint64_t output_pieces = 0;
  int results_break = 0;
  bool end_watch = true;
  Mutex mutex;
  uint64_t written LONGHAUL_GUARDED_BY(mutex) = 0;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST(JobClient, SubmitsWhatItWasGivenUnderAKeyOfItsOwn) {
  HandMaster master;
  JobClient client(master.address());
  JobSpec spec;
  spec.command = {"/bin/odd \xff name", "x"};
  spec.env = {{"A", "b"}};
  spec.ranks = 7;
  spec.grace = milliseconds(250);
  ASSERT_EQ(*client.submit(spec), "j1");
  const JobSpec got = from_proto(master.submitted.spec());
  EXPECT_EQ(got.command, spec.command);
  EXPECT_EQ(got.env, spec.env);
  EXPECT_EQ(got.ranks, 7);
  EXPECT_EQ(got.grace, milliseconds(250));
  const std::string first_key = master.submitted.submission_key();
  EXPECT_FALSE(first_key.empty());
  ASSERT_TRUE(client.submit(spec));
  EXPECT_NE(master.submitted.submission_key(), first_key);
}

TEST(JobClient, PassesRefusalsOnInTheMastersWords) {
  HandMaster master;
  JobClient client(master.address());
  EXPECT_EQ(client.get("j1")->id, "j1");
  const Result<JobStatus> missing = client.get("j9");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.failure().kind, ErrorKind::kInvalid);
  EXPECT_EQ(missing.failure().message, "no job 'j9'");
  EXPECT_EQ(client.nodes()->at(0).state, WorkerState::kUnreachable);
}

TEST(JobClient, ExplainsDrainsAndTellsEvents) {
  HandMaster master;
  JobClient client(master.address());
  const Explanation made = *client.explain("j4");
  EXPECT_EQ(made.job, "j4");
  EXPECT_EQ(made.state, JobState::kPending);
  EXPECT_EQ(made.reason, "it waits");
  EXPECT_EQ(made.help, std::vector<std::string>{"wait too"});
  EXPECT_EQ(made.nodes.at(0).free, 3);
  EXPECT_EQ(made.ahead.at(0).state, JobState::kRunning);
  EXPECT_EQ(made.ahead.at(0).slots_held, 2);
  EXPECT_TRUE(client.drain("w")->drained);
  EXPECT_FALSE(client.drain("w", false)->drained);

  std::vector<ClusterEvent> events;
  const auto keep = [&](const ClusterEvent& event) {
    events.push_back(event);
    return true;
  };
  EventOptions options;
  options.worker = "w";
  options.after = 1;
  ASSERT_TRUE(client.events(options, keep));
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].number, 3U);
  EXPECT_EQ(events[1].kind, EventKind::kWorkerLost);
  EXPECT_EQ(events[1].worker, "w");
  EXPECT_EQ(events[1].rank, 7);
  // A stream is left by a callback that has seen enough.
  options.follow = true;
  EXPECT_TRUE(client.events(options, [](const ClusterEvent&) { return false; }));
}

TEST(JobClient, DeniedFullAndTooLargeAreThreeThings) {
  HandMaster master;
  JobClient client(master.address());
  const auto kind_of = [&](grpc::StatusCode code, const std::string& why) {
    master.refusal = {code, why};
    return client.get("refused").failure().kind;
  };
  EXPECT_EQ(kind_of(grpc::StatusCode::PERMISSION_DENIED, "no"), ErrorKind::kDenied);
  EXPECT_EQ(kind_of(grpc::StatusCode::UNAUTHENTICATED, "who?"), ErrorKind::kDenied);
  EXPECT_EQ(kind_of(grpc::StatusCode::RESOURCE_EXHAUSTED, "the disk is full"),
            ErrorKind::kExhausted);
  EXPECT_EQ(kind_of(grpc::StatusCode::RESOURCE_EXHAUSTED,
                    "Received message larger than max (70000000 vs. 67108864)"),
            ErrorKind::kInvalid);
}

TEST(JobClient, SaysWhichAddressItTried) {
  std::string address;
  {
    HandMaster master;
    address = master.address();
  }
  JobClient client(address);
  const Result<std::vector<NodeInfo>> nodes = client.nodes();
  ASSERT_FALSE(nodes);
  EXPECT_EQ(nodes.failure().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(nodes.failure().message,
            "cannot reach the master at " + address + ": connection refused");
}

// --- The master goes away, and comes back --------------------------------------------------------

TEST(LostMaster, ACallIsMadeAgainWithinItsTime) {
  HandMaster master;
  JobClient client(master.address(), {.call_timeout = kSoon});
  ASSERT_TRUE(client.get("j1"));
  master.stop();
  Thread back("back", [&] {
    std::this_thread::sleep_for(milliseconds(500));  // the outage itself
    master.start();
  });
  EXPECT_TRUE(client.get("j1"));
}

TEST(LostMaster, AStopThatIsSaidAgainIsOfTheSameJob) {
  HandMaster master;
  JobClient client(master.address(), {.call_timeout = kSoon});
  const Result<JobStatus> stopped = client.stop("last", {});
  ASSERT_TRUE(stopped) << stopped.failure().message;
  EXPECT_THAT(master.stopped, ElementsAre("j1", "j1"));
}

TEST(LostMaster, AWorkerThatWasForgottenByACallWithoutAnAnswerIsForgotten) {
  HandMaster master;
  JobClient client(master.address(), {.call_timeout = kSoon});
  EXPECT_TRUE(client.forget("lost-one"));
  const Result<void> again = client.forget("lost-one");
  ASSERT_FALSE(again) << "not repeated this time";
  EXPECT_EQ(again.failure().kind, ErrorKind::kInvalid);
  master.forgotten.clear();
  EXPECT_FALSE(client.forget("w")) << "that one is still there";
}

TEST(LostMaster, ACallThatIsNotAnsweredInTimeSaysWhy) {
  HandMaster master;
  JobClient client(master.address(), {.call_timeout = milliseconds(700)});
  ASSERT_TRUE(client.get("j1"));
  master.stop();
  const Result<JobStatus> gone = client.get("j1");
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.failure().kind, ErrorKind::kUnavailable) << gone.failure().message;
}

TEST(LostMaster, AHostThatTakesTheCallAndSaysNothingIsGivenUp) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const plain = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), plain, size), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  ASSERT_EQ(::getsockname(listener.get(), plain, &size), 0);
  JobClient client(str_cat("127.0.0.1:", ntohs(address.sin_port)),
                   {.call_timeout = milliseconds(500), .patience = kSoon});
  EXPECT_EQ(client.get("j1").failure().kind, ErrorKind::kDeadline);
  EXPECT_EQ(client.nodes().failure().kind, ErrorKind::kDeadline);
  EXPECT_EQ(client.events({}, [](const ClusterEvent&) { return true; }).failure().kind,
            ErrorKind::kDeadline);
  const std::unique_ptr<JobWatch> watch = client.watch("j1", {});
  EXPECT_EQ(std::get<WatchEnded>(*watch->next()).failure->kind, ErrorKind::kDeadline);
}

TEST(LostMaster, AWatchGoesOnWhereItWas) {
  HandMaster master;
  master.end_watch = false;
  master.output_pieces = 3;
  JobClient client(master.address(), {.patience = kSoon});
  const std::unique_ptr<JobWatch> watch = client.watch("j1", {});
  std::vector<uint64_t> offsets;
  std::vector<bool> lost;
  const auto take = [&] {
    const std::optional<WatchEvent> event = watch->next_until(SystemClock().now() + kSoon);
    ASSERT_TRUE(event);
    if (const auto* piece = std::get_if<OutputPiece>(&*event)) offsets.push_back(piece->offset);
    if (const auto* link = std::get_if<LinkChanged>(&*event))
      lost.push_back(link->lost.has_value());
    ASSERT_FALSE(std::holds_alternative<WatchEnded>(*event));
  };
  while (offsets.size() < 3 && !HasFatalFailure()) take();
  master.stop();
  while (lost.empty() && !HasFatalFailure()) take();
  master.output_pieces = 5;
  master.start();
  while (offsets.size() < 5 && !HasFatalFailure()) take();
  EXPECT_EQ(offsets, (std::vector<uint64_t>{0, 65536, 131072, 196608, 262144}));
  EXPECT_EQ(lost, (std::vector<bool>{true, false}));
}

TEST(LostMaster, AWatchThatWaitsForItEndsWhenItIsCancelled) {
  HandMaster master;
  master.end_watch = false;
  JobClient client(master.address(), {.patience = kSoon * 10});
  const std::unique_ptr<JobWatch> watch = client.watch("j1", {});
  ASSERT_TRUE(watch->next());
  master.stop();
  EXPECT_TRUE(std::get<LinkChanged>(*watch->next()).lost);
  watch->cancel();
  EXPECT_TRUE(std::get<WatchEnded>(*watch->next()).failure);
}

TEST(LostMaster, ResultsGoOnInTheMiddleOfOne) {
  HandMaster master;
  master.results_break = 3;
  int links = 0;
  JobClient client(master.address(), {.patience = kSoon, .on_link = [&](const auto&) { ++links; }});
  std::vector<std::string> results;
  const Result<void> read = client.results("j1", {}, [&](const TaskResult& result) {
    results.push_back(result.data);
    return true;
  });
  ASSERT_TRUE(read) << read.failure().message;
  EXPECT_EQ(results, (std::vector<std::string>{"0first0second", "1first1second", "2first2second"}));
  EXPECT_GT(links, 0);
}

TEST(LostMaster, WithoutPatienceAStreamThatBreaksHasFailed) {
  HandMaster master;
  master.results_break = 1;
  JobClient client(master.address());
  const Result<void> read = client.results("j1", {}, [](const TaskResult&) { return true; });
  ASSERT_FALSE(read);
  EXPECT_EQ(read.failure().kind, ErrorKind::kUnavailable);
}

TEST(JobClient, InputsThatCannotBeReadAreNotSubmitted) {
  HandMaster master;
  JobClient client(master.address());
  JobSpec spec;
  spec.command = {"x"};
  spec.array.emplace();
  int given = 0;
  const Result<JobId> submitted =
      client.submit_array(spec, [&](std::string* input) -> Result<bool> {
        if (++given == 3) return Failure{ErrorKind::kInvalid, "line 3 cannot be read"};
        *input = "x";
        return true;
      });
  ASSERT_FALSE(submitted);
  EXPECT_EQ(submitted.failure().message, "line 3 cannot be read");
  given = 0;
  const Result<JobId> too_long = client.submit_array(spec, [&](std::string* input) -> Result<bool> {
    input->assign(size_t{16} << 20, 'x');
    return ++given == 1;
  });
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.failure().kind, ErrorKind::kInvalid);
}

TEST(JobWatch, EndsWithoutAFailureWhenTheMasterSaysSo) {
  HandMaster master;
  master.output_pieces = 3;
  JobClient client(master.address());
  const std::unique_ptr<JobWatch> watch = client.watch("j1", {});
  EXPECT_EQ(std::get<JobStatus>(*watch->next()).id, "j1");
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(std::get<OutputPiece>(*watch->next()).offset, i * 65536);
  }
  EXPECT_FALSE(watch->ended());
  EXPECT_FALSE(std::get<WatchEnded>(*watch->next()).failure);
  EXPECT_FALSE(watch->next());
  EXPECT_TRUE(watch->ended());
}

TEST(JobWatch, AWatchThatIsCancelledOrForgottenEnds) {
  HandMaster master;
  master.end_watch = false;
  JobClient client(master.address());
  const std::unique_ptr<JobWatch> watch = client.watch("j1", {});
  ASSERT_TRUE(watch->next());
  EXPECT_FALSE(watch->next_until(SystemClock().now() + milliseconds(20)));
  EXPECT_FALSE(watch->ended());
  watch->cancel();
  EXPECT_TRUE(std::get<WatchEnded>(*watch->next()).failure);
  const std::unique_ptr<JobWatch> forgotten = client.watch("j1", {});
  ASSERT_TRUE(forgotten->next());
}

TEST(JobWatch, AMasterThatGoesAwayIsAFailureThatNamesIt) {
  HandMaster master;
  master.end_watch = false;
  JobClient client(master.address());
  const std::unique_ptr<JobWatch> watch = client.watch("j1", {});
  ASSERT_TRUE(watch->next());
  master.stop();
  const std::optional<WatchEvent> end = watch->next_until(SystemClock().now() + kSoon);
  ASSERT_TRUE(end);
  EXPECT_TRUE(std::get<WatchEnded>(*end).failure);
}

TEST(JobWatch, ASlowReaderHoldsBackTheMasterAndNotItsOwnMemory) {
  HandMaster master;
  master.output_pieces = 1000;  // 64 MB
  JobClient client(master.address());
  const std::unique_ptr<JobWatch> watch = client.watch("j1", {});
  ASSERT_TRUE(watch->next());
  // The stream stalls with some megabytes in flight; then everything still arrives.
  uint64_t before = 0;
  for (;;) {
    std::this_thread::sleep_for(milliseconds(300));
    MutexLock lock(master.mutex);
    if (master.written == before) break;
    before = master.written;
  }
  EXPECT_LT(before, 500U);
  uint64_t pieces = 0;
  while (std::optional<WatchEvent> event = watch->next()) {
    if (std::holds_alternative<OutputPiece>(*event)) ++pieces;
  }
  EXPECT_EQ(pieces, 1000U);
}

}  // namespace
}  // namespace longhaul
