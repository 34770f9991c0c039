// What people and programs read, word for word.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/cli/commands/job_request.h"
#include "apps/cli/commands/ranks_per_node.h"
#include "apps/cli/commands/retry_request.h"
#include "apps/cli/follow/line_assembler.h"
#include "apps/cli/follow/line_filter.h"
#include "apps/cli/follow/progress.h"
#include "apps/cli/text/base64.h"
#include "apps/cli/text/failure_text.h"
#include "apps/cli/text/job_text.h"
#include "apps/cli/text/json_text.h"
#include "apps/cli/text/json_values.h"
#include "apps/cli/text/table.h"
#include "apps/cli/text/terminal_text.h"
#include "base/printable.h"
#include "longhaul/base/strings.h"

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
  EXPECT_EQ(render_jobs({running_job(), failed_job()}, kNow, 80),
            "JOB  NAME  STATE    RANKS  DONE  AGE    EXIT  REASON OR COMMAND\n"
            "j3   gpt   running  2      30%   1m10s  -     '/opt/char gpt' --steps 400\n"
            "j3   gpt   failed   2      30%   1m10s  3     rank 1 exited with code 3\n");
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

std::string joined(const std::vector<RankLine>& lines) {
  std::string text;
  for (const RankLine& line : lines) text += (line.is_stderr ? "!" : "") + with_rank(line);
  return text;
}

TEST(LineAssembler, WholeLinesOnlyAndRanksNeverMix) {
  LineAssembler lines;
  EXPECT_EQ(joined(lines.add({0, false, 0, "one\ntw"})), "[0] one\n");
  EXPECT_EQ(joined(lines.add({1, false, 0, "other\n"})), "[1] other\n");
  EXPECT_EQ(joined(lines.add({0, true, 0, "err"})), "");
  EXPECT_EQ(lines.unfinished({0, true, 0, ""}), "err");
  EXPECT_EQ(joined(lines.add({0, false, 6, "o\n\nrest"})), "[0] two\n[0] \n");
  EXPECT_EQ(joined(lines.flush()), "[0] rest\n![0] err\n");
}

TEST(LineAssembler, DropsWhatComesAgain) {
  LineAssembler lines;
  EXPECT_EQ(joined(lines.add({0, false, 0, "one\ntwo"})), "[0] one\n");
  EXPECT_EQ(joined(lines.add({0, false, 0, "one\n"})), "");
  EXPECT_EQ(joined(lines.add({0, false, 4, "two and more\n"})), "[0] two and more\n");
}

TEST(LineAssembler, CutsALineWithoutAnEndAndSaysSo) {
  LineAssembler lines;
  const std::string long_text(100'000, 'x');
  EXPECT_EQ(joined(lines.add({3, false, 0, long_text})), "[3] " + long_text + "[...]\n");
  EXPECT_EQ(joined(lines.add({3, false, 100'000, "end\nnext\n"})), "[3] [...]end\n[3] next\n");
}

TEST(TerminalText, EscapeSequencesAreLeftOut) {
  EXPECT_EQ(terminal_text("\x1b[31mred\x1b[0m and \x1b[1;1H\x1b[2Jgone\n"), "red and gone\n");
  EXPECT_EQ(terminal_text("\x1b]0;title\abell \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n"),
            "bell link\n");
  EXPECT_EQ(terminal_text("\x1b(Bset \x1b"
                          "creset \x1bPdevice\x1b\\\n"),
            "set reset \n");
  EXPECT_EQ(terminal_text("cut \x1b[31"), "cut \\x1b[31");
  EXPECT_EQ(terminal_text("no end \x1b]0;title\nnext\n"), "no end \\x1b]0;title\nnext\n");
  EXPECT_EQ(terminal_text("c1 \u009b31m \a\b\xff\ttab\n"), "c1 \\u{9b}31m \\x07\\x08\\xff\ttab\n");
}

TEST(TerminalText, TheLastPictureOfAProgressBarIsLeft) {
  EXPECT_EQ(terminal_text("  0%|    |\r 50%|##  |\r100%|####|\n"), "100%|####|\n");
  EXPECT_EQ(terminal_text("\r 50%|##  |\r"), " 50%|##  |");
  EXPECT_EQ(terminal_text("dos\r\nlines\r\n"), "dos\nlines\n");
  EXPECT_EQ(terminal_text("\r\x1b[K 7%"), " 7%");
  EXPECT_EQ(terminal_text("\r\r\n"), "\n");
}

TEST(LinePattern, IsAnExtendedRegularExpression) {
  const LinePattern pattern = LinePattern::compile("loss|err(or)?$").value_or_throw();
  EXPECT_TRUE(pattern.matches("step 3, loss 2.5"));
  EXPECT_TRUE(pattern.matches(std::string("a\0b err", 7)));
  EXPECT_FALSE(pattern.matches("errors"));
  EXPECT_FALSE(LinePattern::compile("(open"));
}

TEST(LineTail, KeepsTheLastLines) {
  LineTail tail(2);
  for (const char* text : {"one", "two", "three"}) tail.add({0, false, text});
  EXPECT_EQ(joined(tail.take()), "[0] two\n[0] three\n");
  EXPECT_EQ(joined(tail.take()), "");
  LineTail none(0);
  none.add({0, false, "one"});
  EXPECT_EQ(joined(none.take()), "");
}

// --- What others wrote --------------------------------------------------------------------------

constexpr const char* kEvil = "\x1b]0;owned\a\x1b[2Jx\ny\xff";

JobStatus evil_job() {
  JobStatus job = failed_job();
  job.spec.name = job.spec.working_directory = job.reason = kEvil;
  job.spec.command = {"/bin/echo", kEvil, "it's", "back\\slash\n"};
  for (RankRecord& rank : job.ranks) {
    rank.worker = rank.host = kEvil;
    rank.fault = RankFault{ErrorKind::kInternal, kEvil, -1};
  }
  job.failure->worker = job.failure->host = job.failure->message = kEvil;
  job.failure->evidence = job.failure->last_lines = job.failure->backtrace = {kEvil, "\ttab"};
  job.earlier_failures = {*job.failure};
  job.generation = 2;
  job.stopped_by = StopOrigin{kEvil, kEvil, kEvil, 1};
  job.hang.emplace();
  job.hang->rank = 1;
  job.hang->message = job.hang->process_state = kEvil;
  job.hang->stack = {kEvil};
  job.spec.array.emplace();
  job.array.emplace();
  job.array->given_up = {{7, kEvil}};
  return job;
}

void expect_harmless(const std::string& text) {
  EXPECT_TRUE(is_utf8(text)) << text;
  for (const char byte : text) {
    EXPECT_TRUE(byte == '\n' || byte == '\t' || static_cast<unsigned char>(byte) >= 0x20) << text;
  }
  EXPECT_EQ(text.find("\ny\\xff"), std::string::npos) << "no line of others: " << text;
}

TEST(OthersWords, SteerNoTerminalWhateverTheCommand) {
  const JobStatus job = evil_job();
  expect_harmless(render_status(job, kNow));
  expect_harmless(render_jobs({job}, kNow, 200));
  expect_harmless(render_failure(job, true));
  JobStatus waiting = job;
  waiting.state = JobState::kPending;
  expect_harmless(render_progress(waiting, std::nullopt, kNow));
  NodeInfo node;
  node.id = node.host = node.address = node.version = kEvil;
  node.jobs = {kEvil};
  expect_harmless(render_nodes({node}, kNow));
  Explanation explanation;
  explanation.job = explanation.reason = kEvil;
  explanation.help = explanation.details = {kEvil};
  explanation.nodes = {{kEvil, 1, 1, kEvil}};
  explanation.ahead = {{kEvil, kEvil, JobState::kRunning, 1}};
  expect_harmless(render_explanation(explanation));
  expect_harmless(render_event({EventKind::kJobEnded, kEvil, kEvil, 1, 0, kEvil, 1, 0}));
}

TEST(OthersWords, AreValidJsonWithEveryCommand) {
  const JobStatus job = evil_job();
  for (const std::string& document :
       {job_json(job), jobs_json({job}),
        event_json({EventKind::kJobEnded, kEvil, kEvil, 1, 0, kEvil, 1, 0})}) {
    EXPECT_TRUE(nlohmann::json::accept(document)) << document;
    EXPECT_TRUE(is_utf8(document));
  }
  EXPECT_EQ(nlohmann::json::parse(job_json(job))["stopped_by"]["unix_ms"], 1);
}

TEST(OthersWords, ACommandGoesBackIntoAShellAsItWas) {
  EXPECT_EQ(quote_command({"a\nb", "it's\x1b", "\xff\\"}),
            "$'a\\x0ab' $'it\\'s\\x1b' $'\\xff\\\\'");
}

// --- Who was it ----------------------------------------------------------------------------------

TEST(FailureText, ATimeLimitAndTasksAreNamedAsSuch) {
  JobStatus job = failed_job();
  job.failure = FailureReport{};
  job.failure->failure_class = FailureClass::kTimeLimit;
  job.spec.time_limit = milliseconds(90'000);
  EXPECT_NE(render_failure(job, true).find("  culprit     its time limit of 1m30s\n"),
            std::string::npos);
  job.failure->failure_class = FailureClass::kTasks;
  job.array.emplace();
  EXPECT_NE(render_failure(job, true).find("culprit     the program: no task of it succeeded\n"),
            std::string::npos);
  job.array->given_up = {{505, "exited with code 4"}, {507, "exited with code 4"}};
  job.array->counts.in_state[static_cast<size_t>(TaskState::kQuarantined)] = 2;
  EXPECT_NE(render_failure(job, true).find("  culprit     task 505 and 1 more\n"),
            std::string::npos);
  job.failure->failure_class = FailureClass::kNoRoom;
  EXPECT_NE(render_failure(job, true).find("  culprit     too few free slots\n"),
            std::string::npos);
}

TEST(JobText, StatusSaysWhoStoppedIt) {
  JobStatus job = running_job();
  job.stopped_by =
      StopOrigin{"ann", "host-b", "longhaul stop j3", static_cast<uint64_t>(kNow - 3000)};
  EXPECT_NE(
      render_status(job, kNow).find("  stopped   by ann on host-b (longhaul stop j3), 3.0s ago\n"),
      std::string::npos);
}

// --- Widths --------------------------------------------------------------------------------------

size_t widest_line(const std::string& text) {
  size_t widest = 0;
  for (const std::string& line : split(text, '\n')) widest = std::max(widest, display_width(line));
  return widest;
}

TEST(JobText, ListsFitTheTerminal) {
  JobStatus job = running_job();
  job.id = "j1234567";
  job.spec.name = std::string(100, 'n');
  job.spec.ranks = 65'536;
  job.reason = std::string(500, 'r');
  JobStatus array = job;
  array.spec.array.emplace();
  array.spec.array->tasks = 10'000'000;
  array.array.emplace();
  array.state = JobState::kSucceeded;
  array.unix_ms_submitted = 1;
  const std::string text = render_jobs({job, array, running_job(), failed_job()}, kNow, 80);
  EXPECT_LE(widest_line(text), 80U) << text;
  EXPECT_GT(widest_line(render_jobs({job}, kNow, 1000)), 500U);
}

Result<JobSpec> spec_of(const JobRequest& request) {
  return make_job_spec(request, "/home/me/project",
                       {{"HERE", "from here"}, {"PWD", "/home/me"}, {"LONGHAUL_AGENT", "unix:x"}});
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
  request.spec.max_restarts = 2;
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

TEST(JobRequest, ExportSendsWhatItSays) {
  JobRequest request;
  request.command = {"train"};
  EXPECT_TRUE(spec_of(request)->env.empty()) << "nothing by default";
  request.exported = "all";
  const std::map<std::string, std::string> here = {{"HERE", "from here"}};
  EXPECT_EQ(spec_of(request)->env, here) << "and not what tells another rank who it is";
  request.exported = "HERE,PWD";
  EXPECT_EQ(spec_of(request)->env.size(), 2U);
  request.env = {"HERE=mine"};
  EXPECT_EQ(spec_of(request)->env.at("HERE"), "mine");
  request.exported = "NOT_HERE";
  EXPECT_FALSE(spec_of(request));
}

TEST(JobRequest, AScriptAloneIsNoProgram) {
  JobRequest request;
  request.command = {"ddp.py", "--lr", "1"};
  ASSERT_FALSE(spec_of(request));
  EXPECT_NE(spec_of(request).failure().message.find("did you mean `python3 ddp.py`"),
            std::string::npos);
  request.command = {"./ddp.py"};
  EXPECT_TRUE(spec_of(request)) << "it may be executable";
}

NodeInfo node_with(int slots, int gpus) {
  NodeInfo node;
  node.slots = slots;
  node.gpus = gpus;
  return node;
}

TEST(RanksPerNode, AreCountedOnTheWorkers) {
  const std::vector<NodeInfo> nodes = {node_with(8, 4), node_with(16, 0), node_with(2, 2)};
  EXPECT_EQ(ranks_per_node("gpu", nodes, 1).value_or_throw(), 4);
  EXPECT_EQ(ranks_per_node("gpu", nodes, 2).value_or_throw(), 2);
  EXPECT_FALSE(ranks_per_node("gpu", nodes, 3)) << "one has none";
  EXPECT_EQ(ranks_per_node("auto", nodes, 3).value_or_throw(), 2) << "slots, then";
  EXPECT_EQ(ranks_per_node("cpu", nodes, 1).value_or_throw(), 16);
  EXPECT_EQ(ranks_per_node("cpu", nodes, 9).value_or_throw(), 2) << "all there are";
  NodeInfo gone = node_with(64, 8);
  gone.state = WorkerState::kLost;
  NodeInfo drained = node_with(64, 8);
  drained.drained = true;
  EXPECT_FALSE(ranks_per_node("auto", {gone, drained}, 1));
  EXPECT_GE(this_machine().slots, 1);
}

// --- Inputs and results --------------------------------------------------------------------------

using Values = std::vector<std::string>;

TEST(JsonValues, KeepEveryDigitAndKey) {
  EXPECT_EQ(json_array_values(R"([123456789012345678901234567890, 1.10, -0, 1E+400, 0.1])")
                .value_or_throw(),
            (Values{"123456789012345678901234567890", "1.10", "-0", "1E+400", "0.1"}));
  EXPECT_EQ(json_array_values(R"( [ {"b" : 1.10, "a":[ 1 , 2.0 ], "b": null} , [ ] , { } ] )")
                .value_or_throw(),
            (Values{R"({"b":1.10,"a":[1,2.0],"b":null})", "[]", "{}"}));
  EXPECT_EQ(
      json_array_values(R"(["a \"b\" \u00e9\n", true, false, null, "", "]"])").value_or_throw(),
      (Values{"a \"b\" \u00e9\n", "true", "false", "null", "", "]"}));
  EXPECT_EQ(json_array_values("[]").value_or_throw(), Values{});
  EXPECT_EQ(json_array_values(R"([[["deep, \" ]"], {"k":{"l":[]}}]])").value_or_throw(),
            Values{R"([["deep, \" ]"],{"k":{"l":[]}}])"});
}

TEST(JsonValues, WhatIsNoArrayIsRefusedWithItsPlace) {
  for (const char* bad :
       {"",         "7",           "{}",    "[",         "]",          "[1",           "[1,",
        "[1,]",     "[,1]",        "[1 2]", "[1] 2",     "[01]",       "[1.]",         "[.5]",
        "[+1]",     "[-]",         "[1e]",  "[nul]",     "[NaN]",      "[\"a]",        "[\"\\x\"]",
        "[\"\n\"]", "[\"\xff\"]",  "[{]",   "[{\"a\"}]", "[{\"a\":}]", "[{\"a\":1,}]", "[{1:2}]",
        "[[1}]",    "[{\"a\":1]]", "[']"}) {
    const Result<Values> values = json_array_values(bad);
    EXPECT_FALSE(values) << bad;
    if (!values) {
      EXPECT_EQ(values.failure().message.find("byte "), 0U) << values.failure().message;
    }
  }
  EXPECT_FALSE(json_array_values(std::string("[1\0]", 4)));
}

TEST(JsonValues, DepthIsBounded) {
  const std::string deep(kDeepestJson - 1, '[');
  const std::string end(kDeepestJson - 1, ']');
  EXPECT_TRUE(json_array_values("[" + deep + end + "]"));
  EXPECT_FALSE(json_array_values(std::string(100'000, '[') + std::string(100'000, ']')));
  EXPECT_FALSE(json_array_values(std::string(100'000, '[')));
}

TEST(Base64, AsInTheStandard) {
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"},
                                                       {"\xff\xfe\xfd", "//79"}};
  for (const auto& [bytes, text] : cases) {
    Base64 whole;
    const std::string first = whole.add(bytes);
    EXPECT_EQ(first + whole.finish(), text);
    std::string letters;
    for (const char byte : std::string(bytes)) letters += whole.add(std::string(1, byte));
    EXPECT_EQ(letters + whole.finish(), text) << "byte by byte";
  }
}

TEST(RetryRequest, KeepsIndicesAndInputs) {
  EXPECT_EQ(as_ranges({{500, ""}, {501, ""}, {507, ""}, {3, ""}, {4, ""}, {5, ""}}),
            "500-501,507,3-5");
  JobStatus job = failed_job();
  job.spec.array.emplace();
  job.spec.array->indices = "500-509";
  job.spec.array->max_attempts = 9;
  ArrayRequested again = retry_of(job, {{503, "503"}, {508, "508"}});
  EXPECT_EQ(again.spec.array->indices, "503,508");
  EXPECT_EQ(again.spec.array->tasks, 2U);
  EXPECT_EQ(again.spec.array->max_attempts, 9);
  EXPECT_EQ(again.spec.command, job.spec.command);
  EXPECT_EQ(again.spec.name, "");
  EXPECT_FALSE(again.next_input);
  job.spec.array->indices.clear();
  again = retry_of(job, {{3, "three"}});
  std::string input;
  ASSERT_TRUE(again.next_input);
  EXPECT_TRUE(again.next_input(&input).value_or_throw());
  EXPECT_EQ(input, "three");
  EXPECT_FALSE(again.next_input(&input).value_or_throw());
}

}  // namespace
}  // namespace longhaul::cli
