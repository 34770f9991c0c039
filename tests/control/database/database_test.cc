// The master's database, broken on purpose.
#include "control/database/database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <set>
#include <thread>

#include "control/database/engine/migrations.h"
#include "longhaul/base/strings.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

std::unique_ptr<Database> open(const std::string& folder, DatabaseContents* contents) {
  return std::move(Database::open(folder, contents)).value_or_throw();
}

DatabaseContents contents_of(const std::string& folder) {
  DatabaseContents contents;
  open(folder, &contents);
  return contents;
}

DatabaseBatch job(uint64_t number, std::optional<std::string> record) {
  DatabaseBatch batch;
  batch.of<JobsTable>().jobs[number] = std::move(record);
  return batch;
}

void write_and_wait(Database& database, DatabaseBatch batch) {
  std::promise<void> durable;
  database.write(std::move(batch), [&] { durable.set_value(); });
  durable.get_future().wait();
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST(DatabaseTest, WhatWasWrittenIsThereAgain) {
  TempDir folder;
  DatabaseContents before;
  {
    const auto database = open(folder.path().string(), &before);
    EXPECT_EQ(before.boot, 1u);
    DatabaseBatch batch = job(7, std::string("seven\0and more", 14));
    batch.of<WorkersTable>().workers["gpu-a"] = "a worker";
    batch.of<StoreTable>().store = {
        {7, "key", "value"}, {7, "gone", "x"}, {7, "gone", std::nullopt}, {8, "k", ""}};
    write_and_wait(*database, std::move(batch));
  }
  DatabaseContents after = contents_of(folder.path().string());
  EXPECT_EQ(after.boot, 2u);
  EXPECT_EQ(after.last_job, 7u);
  EXPECT_THAT(after.of<JobsTable>(), ElementsAre(Pair(7u, std::string("seven\0and more", 14))));
  EXPECT_THAT(after.of<WorkersTable>(), ElementsAre(Pair("gpu-a", "a worker")));
  EXPECT_THAT(after.of<StoreTable>(), ElementsAre(Pair(7u, ElementsAre(Pair("key", "value"))),
                                                  Pair(8u, ElementsAre(Pair("k", "")))));
}

TEST(DatabaseTest, ADroppedJobTakesItsStoreAlongButNotItsNumber) {
  TempDir folder;
  DatabaseContents contents;
  {
    const auto database = open(folder.path().string(), &contents);
    DatabaseBatch batch = job(3, "three");
    batch.of<StoreTable>().store = {{3, "key", "value"}};
    database->write(std::move(batch), [] {});
    DatabaseBatch drop = job(3, std::nullopt);
    drop.of<StoreTable>().store = {{3, std::nullopt, std::nullopt}};
    write_and_wait(*database, std::move(drop));
  }
  const DatabaseContents after = contents_of(folder.path().string());
  EXPECT_TRUE(after.of<JobsTable>().empty());
  EXPECT_TRUE(after.of<StoreTable>().empty());
  EXPECT_EQ(after.last_job, 3u);
}

TEST(DatabaseTest, DatasetsAndSetsOfInputsGoWithTheirJob) {
  TempDir folder;
  DatabaseContents contents;
  constexpr uint64_t kSet = kFirstInputSet + 5;
  TaskRecord shard;
  shard.task = 4;
  shard.state = TaskState::kDone;
  shard.attempt = 2;
  shard.epoch = 77;
  shard.holder = {"gpu-a", "1/0"};
  {
    const auto database = open(folder.path().string(), &contents);
    DatabaseBatch batch = job(3, "three");
    batch.of<InputsTable>().inputs = {{kSet, 0, "first"}, {kSet, 10, "second"}};
    batch.of<InputsTable>().sets = {{3, kSet}};
    batch.of<DatasetsTable>().plans = {{3, "train", "a plan"}};
    batch.of<DatasetsTable>().shards = {{3, "train", shard}};
    write_and_wait(*database, std::move(batch));
    InputReader reader(folder.path());
    EXPECT_EQ(reader.read(kSet, 9).value_or_throw().inputs, "first");
    EXPECT_EQ(reader.read(kSet, 10).value_or_throw().inputs, "second");
    EXPECT_FALSE(reader.read(kSet + 1, 0));
  }
  DatabaseContents after = contents_of(folder.path().string());
  EXPECT_THAT(after.of<InputsTable>(), ElementsAre(Pair(3u, kSet)));
  ASSERT_THAT(after.of<DatasetsTable>(),
              ElementsAre(Pair(3u, ElementsAre(Pair("train", ::testing::_)))));
  EXPECT_EQ(after.of<DatasetsTable>()[3]["train"].plan, "a plan");
  EXPECT_THAT(after.of<DatasetsTable>()[3]["train"].shards, ElementsAre(shard));
  {
    const auto database = open(folder.path().string(), &contents);
    write_and_wait(*database, job(3, std::nullopt));
    EXPECT_FALSE(InputReader(folder.path()).read(kSet, 0));
  }
  after = contents_of(folder.path().string());
  EXPECT_TRUE(after.of<InputsTable>().empty());
  EXPECT_TRUE(after.of<DatasetsTable>().empty());
}

TEST(DatabaseTest, BatchesBecomeDurableInOrder) {
  TempDir folder;
  DatabaseContents contents;
  std::vector<uint64_t> order;
  {
    const auto database = open(folder.path().string(), &contents);
    for (uint64_t number = 1; number <= 2000; ++number) {
      database->write(job(number, "x"), [&order, number] { order.push_back(number); });
    }
  }
  ASSERT_EQ(order.size(), 2000u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(contents_of(folder.path().string()).of<JobsTable>().size(), 2000u);
}

TEST(DatabaseTest, ASecondMasterIsRefused) {
  TempDir folder;
  DatabaseContents contents;
  const auto first = open(folder.path().string(), &contents);
  const auto second = Database::open(folder.path().string(), &contents);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.failure().kind, ErrorKind::kInvalid);
  EXPECT_THAT(second.failure().message, HasSubstr("another master uses it"));
}

// A file of another version or program is refused, and not one byte of it changes.
void expect_refused(const char* sql, const std::string& why) {
  TempDir folder;
  contents_of(folder.path().string());
  const std::string path = folder.path().string() + "/master.db";
  {
    auto sqlite = std::move(Sqlite::open(path, Sqlite::Mode::kReadWriteCreate)).value_or_throw();
    ASSERT_TRUE(sqlite.execute(sql));
    ASSERT_TRUE(sqlite.execute("PRAGMA journal_mode=DELETE"));
  }
  const std::string before = bytes_of(path);
  DatabaseContents contents;
  const auto refused = Database::open(folder.path().string(), &contents);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().kind, ErrorKind::kInvalid);
  EXPECT_THAT(refused.failure().message, HasSubstr(why));
  EXPECT_EQ(bytes_of(path), before);
}

TEST(DatabaseTest, EventsAreKeptUpToACapAndTheOldestGo) {
  TempDir folder;
  DatabaseContents before;
  {
    const auto database = open(folder.path().string(), &before);
    for (uint64_t number = 1; number <= 5; ++number) {
      DatabaseBatch batch;
      batch.of<EventsTable>().events[number] = std::to_string(number);
      batch.of<EventsTable>().first_kept = number < 3 ? 1 : number - 2;
      write_and_wait(*database, std::move(batch));
    }
  }
  EXPECT_THAT(contents_of(folder.path().string()).of<EventsTable>(),
              ElementsAre(Pair(3, "3"), Pair(4, "4"), Pair(5, "5")));
}

// A database as a program of that version left it.
void make_older(const std::string& folder, int version, const char* rows) {
  auto sqlite = std::move(Sqlite::open(folder + "/master.db", Sqlite::Mode::kReadWriteCreate))
                    .value_or_throw();
  ASSERT_TRUE(sqlite.execute("PRAGMA journal_mode=WAL"));
  ASSERT_TRUE(migrate(sqlite, version));
  const Result<void> written = sqlite.execute(rows);
  ASSERT_TRUE(written) << written.failure().message;
}

// A version that two tables skip, or that nobody brings about, would never be reached.
TEST(DatabaseTest, EveryVersionOfTheSchemaIsBroughtAbout) {
  std::set<int> versions;
  for_each_table([&]<typename T>() {
    for (const Migration& one : T::kMigrations) versions.insert(one.version);
  });
  std::set<int> all;
  for (int version = 1; version <= schema_version(); ++version) all.insert(version);
  EXPECT_EQ(versions, all);
}

TEST(DatabaseTest, AnOlderSchemaGetsWhatIsNew) {
  TempDir folder;
  make_older(folder.path().string(), 1, "INSERT INTO jobs VALUES(7, CAST('seven' AS BLOB))");
  const DatabaseContents after = contents_of(folder.path().string());
  EXPECT_THAT(after.of<JobsTable>(), ElementsAre(Pair(7, "seven")));
  EXPECT_TRUE(after.of<EventsTable>().empty());
}

TEST(DatabaseTest, TasksAndResultsOfVersion5AreKept) {
  TempDir folder;
  make_older(folder.path().string(), 5,
             "INSERT INTO jobs VALUES(7, x'00');"
             "INSERT INTO tasks VALUES(7, 0, 3, 2, 41, 'gpu-a', 'a1', x'0100020003000400', 1, x'');"
             "INSERT INTO tasks VALUES(7, 9999999, 2, 1, 42, 'gpu-b', 'b1', zeroblob(8), -1, x'');"
             "INSERT INTO tasks VALUES(8, 0, 4, 5, 43, 'gpu-b', 'b1', x'0500000000000000', 1,"
             " CAST('exited with code 1' AS BLOB));"
             "INSERT INTO results VALUES(7, 9999999, 1, 40, 11, x'ab00cd', 0);"
             "INSERT INTO results VALUES(7, 0, 2, 41, 5, x'', 300000);"
             "INSERT INTO results VALUES(8, 3, 1, 39, 6, x'ef', 0)");
  const DatabaseContents after = contents_of(folder.path().string());
  ASSERT_EQ(after.of<TasksTable>().at(7).size(), 2u);
  const TaskRecord& done = after.of<TasksTable>().at(7)[0];
  EXPECT_EQ(done.task, 0u);
  EXPECT_EQ(done.state, TaskState::kDone);
  EXPECT_EQ(done.lease(), (Lease{0, 2, 41, "a1"}));
  EXPECT_EQ(done.holder.worker, "gpu-a");
  EXPECT_EQ(done.failures, (FaultCounts{1, 2, 3, 4}));
  EXPECT_EQ(done.last_fault, static_cast<FaultKind>(1));
  const TaskRecord& leased = after.of<TasksTable>().at(7)[1];
  EXPECT_EQ(leased.state, TaskState::kLeased);
  EXPECT_EQ(leased.lease(), (Lease{9'999'999, 1, 42, "b1"}));
  ASSERT_EQ(after.of<TasksTable>().at(8).size(), 1u);
  EXPECT_EQ(after.of<TasksTable>().at(8)[0].state, TaskState::kQuarantined);
  EXPECT_EQ(after.of<TasksTable>().at(8)[0].reason, "exited with code 1");

  ResultReader reader = ResultReader::open(folder.path()).value_or_throw();
  const std::vector<EndedRow> rows = reader.read(7, 0, 10'000'000, 10).value_or_throw();
  ASSERT_EQ(rows.size(), 2u) << "and none of job 8";
  EXPECT_EQ(rows[0].task, done);
  ASSERT_TRUE(rows[0].result && rows[1].result);
  EXPECT_EQ(rows[0].result->task, 0u);
  EXPECT_EQ(rows[0].result->epoch, 41u);
  EXPECT_EQ(rows[0].result->file_bytes, 300'000u);
  EXPECT_EQ(rows[1].result->task, 9'999'999u);
  EXPECT_EQ(rows[1].result->attempt, 1u);
  EXPECT_EQ(rows[1].result->bytes, 11u);
  EXPECT_EQ(rows[1].result->result, std::string("\xab\0\xcd", 3));
  EXPECT_EQ(rows[1].task.ran_ms, kNotMeasured) << "nobody measured then";
}

TaskRecord leased(TaskIndex task, LeaseEpoch epoch, const LeaseHolder& holder) {
  TaskRecord record;
  record.task = task;
  record.state = TaskState::kLeased;
  record.attempt = 1;
  record.epoch = epoch;
  record.holder = holder;
  return record;
}

std::vector<TaskRecord> in_task_order(std::vector<TaskRecord> tasks) {
  std::ranges::sort(tasks, {}, &TaskRecord::task);
  return tasks;
}

int64_t rows_of(const std::string& folder, const char* table) {
  auto sqlite = Sqlite::open(folder + "/master.db", Sqlite::Mode::kReadOnly).value_or_throw();
  auto count = sqlite.prepare(str_cat("SELECT count(*) FROM ", table)).value_or_throw();
  EXPECT_TRUE(count.next().value_or_throw());
  return count.integer(0);
}

// What is wrong with it, as soon as it knows; empty when it does not within six seconds.
std::string trouble_of(const Database& database) {
  for (int i = 0; i < 600 && !database.trouble(); ++i) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  return database.trouble().value_or(Failure()).message;
}

// Those that share a row come back one by one, and each as its own last row says.
TEST(DatabaseTest, TasksGrantedTogetherComeBackEachAsItStood) {
  TempDir folder;
  const std::string path = folder.path().string();
  const LeaseHolder a{"gpu-a", "a1"};
  const LeaseHolder b{"gpu-b", "b1"};
  std::vector<TaskRecord> tasks;
  tasks.reserve(16);
  for (TaskIndex task = 0; task < 10; ++task) tasks.push_back(leased(task, 100 + task, a));
  for (TaskIndex task = 10; task < 13; ++task) tasks.push_back(leased(task, 110 + task, a));
  for (TaskIndex task = 13; task < 15; ++task) tasks.push_back(leased(task, 110 + task, b));
  tasks.push_back(leased(20, 130, b));
  DatabaseContents contents;
  {
    const auto database = open(path, &contents);
    DatabaseBatch batch = job(3, "three");
    for (const TaskRecord& task : tasks) batch.of<TasksTable>().tasks.push_back({3, task});
    batch.of<TasksTable>().tasks.push_back(
        {4, leased(21, 131, b)});  // the next one, of another job
    write_and_wait(*database, std::move(batch));
    EXPECT_EQ(rows_of(path, "grants"), 3);
    EXPECT_EQ(rows_of(path, "tasks"), 2);
  }
  EXPECT_EQ(in_task_order(contents_of(path).of<TasksTable>().at(3)), tasks);

  tasks[0].state = TaskState::kDone;
  tasks[9].state = TaskState::kWaiting;  // given back
  tasks[14] = leased(14, 200, a);        // failed, and granted again
  tasks[14].attempt = 2;
  tasks[14].failures = {1};
  tasks[14].last_fault = FaultKind::kApplication;
  tasks[14].reason = "exited with code 1";
  {
    const auto database = open(path, &contents);
    DatabaseBatch batch;
    for (const size_t moved : {0, 9, 14}) batch.of<TasksTable>().tasks.push_back({3, tasks[moved]});
    write_and_wait(*database, std::move(batch));
  }
  DatabaseContents after = contents_of(path);
  EXPECT_EQ(in_task_order(after.of<TasksTable>().at(3)), tasks);
  EXPECT_EQ(after.of<TasksTable>().at(4).size(), 1u);
  {
    const auto database = open(path, &contents);
    write_and_wait(*database, job(3, std::nullopt));
  }
  after = contents_of(path);
  EXPECT_FALSE(after.of<TasksTable>().contains(3));
  EXPECT_TRUE(after.of<TasksTable>().contains(4));
  EXPECT_EQ(rows_of(path, "grants"), 0);
}

TEST(DatabaseTest, ASecondResultOfATaskIsRefused) {
  TempDir folder;
  const std::string path = folder.path().string();
  DatabaseContents contents;
  const auto database = open(path, &contents);
  DatabaseBatch batch;
  TaskRecord done = leased(7, 100, {"gpu-a", "a1"});
  done.state = TaskState::kDone;
  done.ran_ms = 1234;
  batch.of<TasksTable>().tasks = {{3, done}};
  batch.of<ResultsTable>().results = {{3, 7, 1, 100, 5, "first", 0, ""}};
  write_and_wait(*database, batch);
  batch.of<ResultsTable>().results[0].result = "second";
  database->write(std::move(batch), [] {});
  EXPECT_THAT(trouble_of(*database), HasSubstr("UNIQUE"));
  EXPECT_EQ(database->trouble()->kind, ErrorKind::kInternal)
      << "not a disk that may have room later";
  ResultReader reader = ResultReader::open(path).value_or_throw();
  const std::vector<EndedRow> rows = reader.read(3, 0, 10, 10).value_or_throw();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].task, done);
  EXPECT_EQ(rows[0].result.value().result, "first");
}

TEST(DatabaseTest, ANewerSchemaIsRefusedUntouched) {
  expect_refused("PRAGMA user_version=99", "its schema has version 99");
}

TEST(DatabaseTest, AnotherProgramsDatabaseIsRefusedUntouched) {
  expect_refused("PRAGMA application_id=1", "of another program");
}

TEST(DatabaseTest, GarbageIsRefused) {
  TempDir folder;
  std::ofstream(folder.path() / "master.db") << std::string(8192, 'x');
  DatabaseContents contents;
  const auto refused = Database::open(folder.path().string(), &contents);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.failure().message, HasSubstr("master.db"));
}

TEST(DatabaseTest, ABackupOfARunningOneIsWhole) {
  TempDir folder;
  TempDir other;
  DatabaseContents contents;
  const auto database = open(folder.path().string(), &contents);
  write_and_wait(*database, job(1, "one"));
  const std::string copy = other.path().string() + "/master.db";
  ASSERT_TRUE(Database::backup(folder.path().string(), copy));
  EXPECT_THAT(contents_of(other.path().string()).of<JobsTable>(), ElementsAre(Pair(1u, "one")));
  const Result<void> again = Database::backup(folder.path().string(), copy);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.failure().message, HasSubstr("exists already"));
}

// A child writes as fast as it can and says what it was told is durable; killed at any moment,
// nothing that it said is missing.
TEST(DatabaseTest, KilledAtAnyMomentItLosesNothingThatItAcknowledged) {
  for (int round = 0; round < 8; ++round) {
    TempDir folder;
    int told[2];
    ASSERT_EQ(::pipe(told), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      DatabaseContents contents;
      const auto database = open(folder.path().string(), &contents);
      std::atomic<uint64_t> in_flight{0};
      for (uint64_t number = 1;; ++number) {
        while (in_flight > 200) std::this_thread::yield();
        ++in_flight;
        database->write(job(number, std::string(500, 'x')), [&in_flight, &told, number] {
          (void)!::write(told[1], &number, sizeof(number));
          --in_flight;
        });
      }
    }
    ::close(told[1]);
    uint64_t last = 0;
    for (uint64_t number = 0; last < uint64_t{50} * static_cast<uint64_t>(round) + 1;) {
      ASSERT_EQ(::read(told[0], &number, sizeof(number)), static_cast<ssize_t>(sizeof(number)));
      last = number;
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (uint64_t number = 0; ::read(told[0], &number, sizeof(number)) == sizeof(number);)
      last = number;
    ::close(told[0]);
    const DatabaseContents contents = contents_of(folder.path().string());
    EXPECT_GE(contents.of<JobsTable>().size(), last);
    for (uint64_t number = 1; number <= last; ++number)
      ASSERT_TRUE(contents.of<JobsTable>().contains(number));
  }
}

// A disk that is really full: a small tmpfs.
TEST(DatabaseTest, AFullDiskLosesNothingAndSaysSo) {
  TempDir folder;
  const std::string mount = folder.path().string();
  if (::mount("tmpfs", mount.c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "mounting a tmpfs needs root";
  }
  {
    DatabaseContents contents;
    const auto database = open(mount + "/state", &contents);
    write_and_wait(*database, job(1, "one"));
    const std::string filler = mount + "/filler";
    {
      std::ofstream file(filler, std::ios::binary);
      while (file << std::string(4096, 'x') << std::flush) {
      }
    }
    std::promise<void> durable;
    std::future<void> written = durable.get_future();
    database->write(job(2, std::string(100'000, 'y')), [&] { durable.set_value(); });
    EXPECT_THAT(trouble_of(*database), HasSubstr("full"));
    EXPECT_EQ(database->trouble()->kind, ErrorKind::kExhausted);
    EXPECT_EQ(written.wait_for(milliseconds(0)), std::future_status::timeout);
    std::filesystem::remove(filler);
    EXPECT_EQ(written.wait_for(std::chrono::seconds(60)), std::future_status::ready);
    EXPECT_FALSE(database->trouble());
  }
  EXPECT_THAT(contents_of(mount + "/state").of<JobsTable>(),
              ElementsAre(Pair(1u, "one"), Pair(2u, std::string(100'000, 'y'))));
  ::umount(mount.c_str());
}

// A master that was killed, or ended well, on a disk that is full to the last byte is started
// again.
TEST(DatabaseTest, ItIsOpenedOnAFullDiskAndWritesWhenThereIsRoom) {
  for (const bool killed : {false, true}) {
    TempDir folder;
    const std::string mount = folder.path().string();
    if (::mount("tmpfs", mount.c_str(), "tmpfs", 0, "size=2m") != 0) {
      GTEST_SKIP() << "mounting a tmpfs needs root";
    }
    const std::string state = mount + "/state";
    const pid_t child = ::fork();
    if (child == 0) {
      DatabaseContents contents;
      auto database = open(state, &contents);
      write_and_wait(*database, job(1, "one"));
      if (!killed) database.reset();
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_EQ(status, 0);
    const std::string filler = mount + "/filler";
    {
      std::ofstream file(filler, std::ios::binary);
      while (file << std::string(4096, 'x') << std::flush) {
      }
    }
    {
      DatabaseContents contents;
      const auto database = open(state, &contents);
      EXPECT_THAT(contents.of<JobsTable>(), ElementsAre(Pair(1u, "one"))) << killed;
      EXPECT_FALSE(contents.new_life);
      std::promise<void> durable;
      std::future<void> written = durable.get_future();
      database->write(job(2, "two"), [&] { durable.set_value(); });
      EXPECT_THAT(trouble_of(*database), ::testing::Not(IsEmpty()));
      EXPECT_EQ(database->trouble()->kind, ErrorKind::kExhausted);
      std::filesystem::remove(filler);
      ASSERT_EQ(written.wait_for(std::chrono::seconds(60)), std::future_status::ready);
    }
    const DatabaseContents after = contents_of(state);
    EXPECT_EQ(after.boot, 3u);
    EXPECT_FALSE(after.new_life);
    EXPECT_THAT(after.of<JobsTable>(), ElementsAre(Pair(1u, "one"), Pair(2u, "two")));
    ::umount(mount.c_str());
  }
}

// Overwrites the pages of the database that hold `text`.
void damage_pages_with(const std::string& folder, const std::string& text) {
  const std::string path = folder + "/master.db";
  const std::string bytes = bytes_of(path);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  constexpr size_t kPage = 4096;
  size_t damaged = 0;
  for (size_t at = bytes.find(text); at != std::string::npos;
       at = bytes.find(text, (at / kPage + 1) * kPage)) {
    file.seekp(static_cast<std::streamoff>(at / kPage * kPage));
    file << std::string(kPage, '\xff');
    ++damaged;
  }
  ASSERT_GT(damaged, 0u);
}

// A task that is done, and what it gave.
void add_done(DatabaseBatch& batch, uint64_t job, TaskIndex task, const std::string& result) {
  TaskRecord done = leased(task, 100 + task, {"gpu-a", "a1"});
  done.state = TaskState::kDone;
  batch.of<TasksTable>().tasks.push_back({job, done});
  batch.of<ResultsTable>().results.push_back(
      {job, task, 1, 100 + task, result.size(), result, 0, ""});
}

TEST(DatabaseTest, ADamagedDatabaseIsNoFullDisk) {
  TempDir folder;
  const std::string path = folder.path().string();
  DatabaseContents contents;
  {
    const auto database = open(path, &contents);
    DatabaseBatch batch;
    for (TaskIndex task = 0; task < 100; ++task) {
      batch.of<ResultsTable>().results.push_back(
          {3, task, 1, 100 + task, 5, std::string(1500, 'x'), 0, ""});
    }
    write_and_wait(*database, std::move(batch));
  }
  ASSERT_NO_FATAL_FAILURE(damage_pages_with(path, std::string(1500, 'x')));
  const auto database = open(path, &contents);
  std::promise<Failure> broken;
  database->on_broken([&](const Failure& failure) { broken.set_value(failure); });
  DatabaseBatch batch;
  batch.of<ResultsTable>().results = {{3, 100, 1, 200, 5, std::string(1500, 'y'), 0, ""}};
  database->write(std::move(batch), [] { ADD_FAILURE() << "it is not durable"; });
  EXPECT_EQ(broken.get_future().get().kind, ErrorKind::kCorrupt);
}

// --- Rows that cannot be read ------------------------------------------------------------------

void change(const std::string& folder, const std::string& sql) {
  auto sqlite =
      std::move(Sqlite::open(folder + "/master.db", Sqlite::Mode::kReadWrite)).value_or_throw();
  const Result<void> done = sqlite.execute(sql.c_str());
  ASSERT_TRUE(done) << done.failure().message;
}

TEST(DatabaseTest, ADamagedRowIsNamedAndHidesNoOther) {
  TempDir folder;
  const std::string path = folder.path().string();
  DatabaseContents contents;
  {
    const auto database = open(path, &contents);
    DatabaseBatch batch = job(1, "one");
    batch.of<JobsTable>().jobs[2] = "two";
    batch.of<JobsTable>().jobs[3] = "three";
    batch.of<JobsTable>().jobs[4] = "four";
    batch.of<TasksTable>().tasks = {{2, leased(0, 7, {"w", "i"})}, {3, leased(0, 8, {"w", "i"})}};
    batch.of<StoreTable>().store = {{4, "key", "value"}};
    batch.of<WorkersTable>().workers["w"] = "a worker";
    batch.of<EventsTable>().events[1] = "an event";
    write_and_wait(*database, std::move(batch));
  }
  change(path, "UPDATE tasks SET state=99 WHERE job=2");
  change(path, "UPDATE jobs SET record=7 WHERE number=1");
  change(path, "UPDATE store SET value=1.5 WHERE job=4");
  change(path, "UPDATE workers SET record=3");
  change(path, "UPDATE events SET record=3");
  const DatabaseContents after = contents_of(path);
  EXPECT_EQ(after.of<JobsTable>().size(), 4u);
  EXPECT_THAT(after.damaged,
              ElementsAre(Pair(1u, "its own row"), Pair(4u, "a value of its rendezvous store")));
  EXPECT_GE(static_cast<size_t>(after.of<TasksTable>().at(2).at(0).state), kTaskStates);
  EXPECT_EQ(after.of<TasksTable>().at(3).at(0), leased(0, 8, {"w", "i"}));
  EXPECT_EQ(after.unreadable.size(), 2u);
}

TEST(DatabaseTest, ADamagedResultIsNamedAndHidesNoOther) {
  TempDir folder;
  const std::string path = folder.path().string();
  DatabaseContents contents;
  {
    const auto database = open(path, &contents);
    DatabaseBatch batch;
    for (TaskIndex task = 0; task < 5; ++task) add_done(batch, 3, task, "result");
    write_and_wait(*database, std::move(batch));
  }
  change(path, "UPDATE results SET result=1 WHERE task=1");
  change(path, "UPDATE results SET epoch='x' WHERE task=3");
  ResultReader reader = ResultReader::open(path).value_or_throw();
  const std::vector<EndedRow> rows = reader.read(3, 0, 5, 10).value_or_throw();
  ASSERT_EQ(rows.size(), 5u);
  for (const EndedRow& row : rows) {
    const bool damaged = row.task.task == 1 || row.task.task == 3;
    ASSERT_TRUE(row.result);
    EXPECT_EQ(row.result->damaged.empty(), !damaged) << row.task.task;
  }
}

// A page of results is overwritten: those on other pages are there.
TEST(DatabaseTest, ADamagedPageHidesOnlyWhatIsOnIt) {
  TempDir folder;
  const std::string path = folder.path().string();
  DatabaseContents contents;
  {
    const auto database = open(path, &contents);
    DatabaseBatch batch;
    for (TaskIndex task = 0; task < 40; ++task) {
      add_done(batch, 3, task, std::string(900, static_cast<char>('0' + task)));
    }
    write_and_wait(*database, std::move(batch));
  }
  ASSERT_NO_FATAL_FAILURE(damage_pages_with(path, std::string(900, '0' + 19)));
  ResultReader reader = ResultReader::open(path).value_or_throw();
  const std::vector<EndedRow> rows = reader.read(3, 0, 40, 40).value_or_throw();
  size_t damaged = 0;
  std::set<TaskIndex> whole;
  for (const EndedRow& row : rows) {
    ASSERT_TRUE(row.result);
    if (row.result->damaged.empty()) {
      whole.insert(row.task.task);
    } else {
      ++damaged;
    }
  }
  EXPECT_GE(damaged, 1u);
  EXPECT_EQ(damaged + whole.size(), 40u);
  EXPECT_TRUE(whole.contains(0));
  EXPECT_TRUE(whole.contains(39));
  EXPECT_FALSE(whole.contains(19));
}

}  // namespace
}  // namespace longhaul::testing
