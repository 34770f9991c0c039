// What people and programs read, word for word.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/cli/failure_text.h"
#include "apps/cli/job_request.h"
#include "apps/cli/job_text.h"
#include "apps/cli/json_text.h"
#include "apps/cli/line_assembler.h"
#include "apps/cli/progress.h"
#include "apps/cli/table.h"

namespace longhaul::cli {
namespace {

constexpr int64_t kNow = 1'700'000'100'000;

RankRecord rank_at(Rank rank, int64_t step) {
  RankRecord record;
  record.rank = rank;
  record.worker = "gpu-a";
  record.host = "host-a";
  record.pid = 4000 + rank;
  record.state = RankState::kJoined;
  record.progress.emplace();
  record.progress->step = step;
  record.progress->total_steps = 400;
  record.progress->loss = 2.0 + rank;
  record.progress->has_loss = true;
  record.progress->tokens_per_second = 6150;
  record.progress->communication_share = 0.2 + 0.1 * rank;
  record.progress->bytes_raw = 600'000'000;
  record.progress->bytes_sent = 475'000'000;
  return record;
}

JobStatus running_job() {
  JobStatus job;
  job.id = "j3";
  job.spec.name = "gpt";
  job.spec.command = {"/opt/char gpt", "--steps", "400"};
  job.spec.working_directory = "/work";
  job.spec.ranks = 2;
  job.state = JobState::kRunning;
  job.ranks = {rank_at(0, 120), rank_at(1, 121)};
  job.unix_ms_submitted = kNow - 70'000;
  job.unix_ms_started = kNow - 65'000;
  return job;
}

JobStatus failed_job() {
  JobStatus job = running_job();
  job.state = JobState::kFailed;
  job.reason = "rank 1 exited with code 3";
  job.exit_code = 3;
  job.unix_ms_ended = kNow - 60'000;
  job.ranks[1].state = RankState::kExited;
  job.ranks[1].exit.emplace();
  job.ranks[1].exit->exit_code = 3;
  job.ranks[0].state = RankState::kExited;
  job.ranks[0].exit.emplace();
  job.ranks[0].exit->exit_code = 143;
  job.ranks[0].exit->signal = 15;
  job.ranks[0].victim = true;
  job.failure.emplace();
  job.failure->failure_class = FailureClass::kExitCode;
  job.failure->rank = 1;
  job.failure->worker = "gpu-a";
  job.failure->host = "host-a";
  job.failure->pid = 4001;
  job.failure->exit_code = 3;
  job.failure->message = "rank 1 exited with code 3";
  job.failure->evidence = {"rank 1 exited with code 3", "rank 0 was stopped"};
  job.failure->last_lines = {"loading", "no such file"};
  job.failure->victims = {0};
  return job;
}

TEST(ProgressLine, SumsUpAllRanks) {
  EXPECT_EQ(render_progress(running_job(), 200.0, kNow),
            "j3 running 1m05s | step 120/400 30% | loss 2.5 | 12.3k tok/s | comm 25% | "
            "1.20 GB -> 950 MB (1.26x) | 3m20s left");
}

TEST(ProgressLine, SaysWhyAJobWaits) {
  JobStatus job = running_job();
  job.state = JobState::kPending;
  job.unix_ms_started = 0;
  job.ranks.clear();
  job.reason = "needs 2 slots, 1 of 1 is free";
  EXPECT_EQ(render_progress(job, std::nullopt, kNow), "j3 pending | needs 2 slots, 1 of 1 is free");
}

TEST(ProgressLine, CountsRanksBeforeTheFirstReport) {
  JobStatus job = running_job();
  job.ranks[0].progress.reset();
  job.ranks[1].progress.reset();
  job.ranks[1].state = RankState::kSpawned;
  EXPECT_EQ(render_progress(job, std::nullopt, kNow), "j3 running 1m05s | 2 ranks, 1 joined");
}

TEST(ProgressLine, LeavesOutWhatIsUnknown) {
  JobStatus job = running_job();
  job.ranks.pop_back();
  RankProgress bare;
  bare.step = 7;
  job.ranks[0].progress = bare;
  EXPECT_EQ(render_progress(job, std::nullopt, kNow), "j3 running 1m05s | step 7 | comm 0%");
}

TEST(ProgressLine, IsCutAtABarWhereOneIsNear) {
  EXPECT_EQ(fit_line("j3 running | step 1/9 11%", 80), "j3 running | step 1/9 11%");
  EXPECT_EQ(fit_line("j3 running | step 1/9 11% | loss 2.5", 27), "j3 running | step 1/9 11%");
  EXPECT_EQ(fit_line("abcdefghij | k", 5), "abcde");
  EXPECT_EQ(fit_line("", 5), "");
}

TEST(TimeLeft, ForgetsASlowStart) {
  const Instant start;
  TimeLeft time_left;
  Progress progress;
  progress.total_steps = 100;
  EXPECT_FALSE(time_left.seconds(progress));
  progress.step = 1;
  time_left.observe(progress, start);
  EXPECT_FALSE(time_left.seconds(progress));
  progress.step = 2;  // after 60 s: caches were cold
  time_left.observe(progress, start + std::chrono::seconds(60));
  for (int i = 1; i <= 40; ++i) {
    progress.step = 2 + i;
    time_left.observe(progress, start + std::chrono::seconds(60 + i));
  }
  ASSERT_TRUE(time_left.seconds(progress));
  EXPECT_NEAR(*time_left.seconds(progress), 58, 1e-6);
}

TEST(PlainPacer, SpeaksAtEachTenthAndEveryTenSeconds) {
  const Instant start;
  PlainPacer pacer;
  Progress progress;
  progress.total_steps = 100;
  EXPECT_FALSE(pacer.due(progress, start));
  progress.step = 9;
  EXPECT_FALSE(pacer.due(progress, start + std::chrono::seconds(1)));
  progress.step = 10;
  EXPECT_TRUE(pacer.due(progress, start + std::chrono::seconds(2)));
  progress.step = 11;
  EXPECT_FALSE(pacer.due(progress, start + std::chrono::seconds(11)));
  EXPECT_TRUE(pacer.due(progress, start + std::chrono::seconds(12)));
}

TEST(FailureText, NamesCulpritEvidenceVictimsAndWhatToDo) {
  EXPECT_EQ(render_failure(failed_job(), true),
            "longhaul: job j3 failed: rank 1 exited with code 3\n"
            "  culprit     rank 1 (host host-a, worker gpu-a, pid 4001)\n"
            "  class       exit code 3\n"
            "  evidence    rank 1 exited with code 3\n"
            "              rank 0 was stopped\n"
            "  last lines  | loading\n"
            "              | no such file\n"
            "  victims     rank 0: stopped because of it\n"
            "  next        read what rank 1 printed before it ended\n"
            "              all it printed: longhaul logs j3 --rank 1\n");
}

TEST(FailureText, AStandaloneJobCannotBeAskedAboutAfterwards) {
  EXPECT_EQ(render_failure(failed_job(), false).find("longhaul logs"), std::string::npos);
}

TEST(FailureText, AKilledRankPointsAtTheKernel) {
  JobStatus job = failed_job();
  job.failure->failure_class = FailureClass::kKilled;
  job.failure->signal = 9;
  const std::string text = render_failure(job, true);
  EXPECT_NE(text.find("class       kill -9, SIGKILL\n"), std::string::npos) << text;
  EXPECT_NE(text.find("see dmesg on host-a"), std::string::npos) << text;
}

TEST(FailureText, AWorkerIsACulpritToo) {
  JobStatus job = failed_job();
  job.failure->failure_class = FailureClass::kWorkerLost;
  job.failure->rank.reset();
  job.failure->pid = 0;
  job.failure->exit_code = 0;
  EXPECT_NE(render_failure(job, true).find("  culprit     worker gpu-a (host host-a)\n"),
            std::string::npos);
}

TEST(FailureText, RanksInWords) {
  EXPECT_EQ(name_ranks({2}), "rank 2");
  EXPECT_EQ(name_ranks({0, 1}), "ranks 0 and 1");
  EXPECT_EQ(name_ranks({0, 1, 3}), "ranks 0, 1 and 3");
}

TEST(Table, AlignsColumnsAndEndsLinesClean) {
  EXPECT_EQ(render_table({"A", "LONG"}, {{"abc", "x"}, {"d"}}),
            "A    LONG\n"
            "abc  x\n"
            "d\n");
  EXPECT_EQ(render_table({"A", "B"}, {}), "A  B\n");
}

TEST(JobText, OneLineForEachJob) {
  EXPECT_EQ(render_jobs({running_job(), failed_job()}, kNow),
            "JOB  NAME  STATE    RANKS  AGE    EXIT  REASON OR COMMAND\n"
            "j3   gpt   running  2      1m10s  -     '/opt/char gpt' --steps 400\n"
            "j3   gpt   failed   2      1m10s  3     rank 1 exited with code 3\n");
}

TEST(JobText, StatusShowsEveryRankAndTheFailure) {
  const std::string text = render_status(failed_job(), kNow);
  EXPECT_NE(text.find("  exit code 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("RANK  WORKER  HOST    PID   STATE   STEP  LOSS  EXIT     NOTE\n"
                      "0     gpu-a   host-a  4000  exited  120   2     SIGTERM  victim\n"
                      "1     gpu-a   host-a  4001  exited  121   3     3\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("longhaul: job j3 failed: "), std::string::npos) << text;
}

TEST(JobText, CommandsCanBeTypedIntoAShell) {
  EXPECT_EQ(quote_command({"./a", "it's", "", "x=1"}), "./a 'it'\\''s' '' x=1");
}

TEST(JsonText, HasASchemaAndEveryField) {
  const nlohmann::json job = nlohmann::json::parse(job_json(failed_job()));
  EXPECT_EQ(job["schema"], 1);
  EXPECT_EQ(job["job"], "j3");
  EXPECT_EQ(job["state"], "failed");
  EXPECT_EQ(job["exit_code"], 3);
  EXPECT_EQ(job["failure"]["class"], "exit code");
  EXPECT_EQ(job["failure"]["rank"], 1);
  EXPECT_EQ(job["ranks"].size(), 2U);
  EXPECT_EQ(job["ranks"][0]["signal"], 15);
  EXPECT_EQ(job["progress"]["step"], 120);
  EXPECT_EQ(nlohmann::json::parse(jobs_json({}))["jobs"].size(), 0U);
  EXPECT_EQ(nlohmann::json::parse(nodes_json({NodeInfo{}}))["nodes"].size(), 1U);
  EXPECT_EQ(submitted_json("j4"), "{\"schema\":1,\"job\":\"j4\"}\n");
}

TEST(JsonText, SurvivesNanAndBytesThatAreNoText) {
  JobStatus job = failed_job();
  job.ranks[0].progress->loss = std::nan("");
  job.failure->last_lines = {"odd \xff bytes"};
  const nlohmann::json parsed = nlohmann::json::parse(job_json(job));
  EXPECT_TRUE(parsed["ranks"][0]["progress"]["loss"].is_null());
}

TEST(LineAssembler, WholeLinesOnlyAndRanksNeverMix) {
  LineAssembler lines;
  EXPECT_EQ(lines.add({0, false, 0, "one\ntw"}), "[0] one\n");
  EXPECT_EQ(lines.add({1, false, 0, "other\n"}), "[1] other\n");
  EXPECT_EQ(lines.add({0, true, 0, "err"}), "");
  EXPECT_EQ(lines.add({0, false, 6, "o\n\n"}), "[0] two\n[0] \n");
  const auto [to_stdout, to_stderr] = lines.flush();
  EXPECT_EQ(to_stdout, "");
  EXPECT_EQ(to_stderr, "[0] err\n");
}

TEST(LineAssembler, DropsWhatComesAgain) {
  LineAssembler lines;
  EXPECT_EQ(lines.add({0, false, 0, "one\ntwo"}), "[0] one\n");
  EXPECT_EQ(lines.add({0, false, 0, "one\n"}), "");
  EXPECT_EQ(lines.add({0, false, 4, "two and more\n"}), "[0] two and more\n");
}

TEST(LineAssembler, CutsALineWithoutAnEnd) {
  LineAssembler lines;
  const std::string long_text(100'000, 'x');
  EXPECT_EQ(lines.add({3, false, 0, long_text}), "[3] " + long_text + "\n");
}

Result<JobSpec> spec_of(const JobRequest& request) {
  return make_job_spec(request, "/home/me/project", [](const std::string& name) {
    return name == "HERE" ? "from here" : nullptr;
  });
}

TEST(JobRequest, ARelativeProgramIsFoundFromHereAndAPlainNameOnTheWorker) {
  JobRequest request;
  request.command = {"../bin/train", "--x"};
  EXPECT_EQ(spec_of(request)->command[0], "/home/me/bin/train");
  EXPECT_EQ(spec_of(request)->working_directory, "/home/me/project");
  EXPECT_EQ(spec_of(request)->ranks, 1);
  request.command = {"python3", "train.py"};
  EXPECT_EQ(spec_of(request)->command[0], "python3");
  request.command = {"/abs/train"};
  request.chdir = "/data";
  EXPECT_EQ(spec_of(request)->command[0], "/abs/train");
  EXPECT_EQ(spec_of(request)->working_directory, "/data");
}

TEST(JobRequest, TorchrunsFlagsCountRanksPerNode) {
  JobRequest request;
  request.command = {"train"};
  request.ranks_per_node = 4;
  request.nodes = "2";
  EXPECT_EQ(spec_of(request)->ranks, 8);
  EXPECT_EQ(spec_of(request)->min_nodes, 0);
  EXPECT_EQ(spec_of(request)->max_ranks_per_worker, 4);
  request.ranks = 8;
  EXPECT_FALSE(spec_of(request));
  request = JobRequest();
  request.command = {"train"};
  request.nodes = "2";
  EXPECT_FALSE(spec_of(request));
}

TEST(JobRequest, TorchrunsRendezvousFlagsMeanSomething) {
  JobRequest request;
  request.command = {"train"};
  request.rdzv_id = "nightly";
  request.rdzv_conf = "timeout=9,join_timeout=600,close_timeout=3";
  EXPECT_EQ(spec_of(request)->name, "nightly");
  EXPECT_EQ(spec_of(request)->join_timeout, std::chrono::seconds(600));
  request.name = "mine";
  request.join_timeout = milliseconds(5);
  EXPECT_EQ(spec_of(request)->name, "mine");
  EXPECT_EQ(spec_of(request)->join_timeout, milliseconds(5));
  request.join_timeout = milliseconds(0);
  for (const char* bad : {"join_timeout", "join_timeout=", "join_timeout=soon"}) {
    request.rdzv_conf = bad;
    EXPECT_FALSE(spec_of(request)) << bad;
  }
}

TEST(JobRequest, ElasticJobsHaveARangeOfNodes) {
  JobRequest request;
  request.command = {"train"};
  request.ranks_per_node = 4;
  request.nodes = "2:5";
  EXPECT_EQ(spec_of(request)->ranks, 20);
  EXPECT_EQ(spec_of(request)->min_nodes, 2);
  for (const char* bad : {"", "0", "5:2", "2:", ":2", "two", "2:3:4", "-1"}) {
    request.nodes = bad;
    EXPECT_EQ(bool(spec_of(request)), request.nodes.empty()) << bad;
  }
}

TEST(JobRequest, RestartsForgiveLostWorkersTooUnlessTold) {
  JobRequest request;
  request.command = {"train"};
  EXPECT_EQ(spec_of(request)->max_node_restarts, 0);
  request.max_restarts = 2;
  EXPECT_EQ(spec_of(request)->max_node_restarts, kNodeRestarts);
  request.max_node_restarts = 1;
  EXPECT_EQ(spec_of(request)->max_node_restarts, 1);
}

TEST(JobRequest, EnvironmentAsGivenOrFromHere) {
  JobRequest request;
  request.command = {"train"};
  request.env = {"A=b=c", "HERE", "EMPTY="};
  const Result<JobSpec> spec = spec_of(request);
  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->env.at("A"), "b=c");
  EXPECT_EQ(spec->env.at("HERE"), "from here");
  EXPECT_EQ(spec->env.at("EMPTY"), "");
  request.env = {"NOT_HERE"};
  EXPECT_FALSE(spec_of(request));
  request.env = {"=x"};
  EXPECT_FALSE(spec_of(request));
  request.env = {};
  request.command = {};
  EXPECT_FALSE(spec_of(request));
}

}  // namespace
}  // namespace longhaul::cli
