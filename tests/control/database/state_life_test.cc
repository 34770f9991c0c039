// When a state folder begins a new life, and when it does not: every way in which people put a
// state back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>

#include "control/database/database.h"
#include "control/database/engine/migrations.h"
#include "control/database/engine/restore.h"
#include "longhaul/base/strings.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

namespace fs = std::filesystem;

class StateLife : public ::testing::Test {
 protected:
  // A master's start and end on the folder.
  static DatabaseContents start(const std::string& folder, uint64_t job = 0) {
    DatabaseContents contents;
    const auto database = std::move(Database::open(folder, &contents)).value_or_throw();
    DatabaseBatch batch;
    if (job != 0) batch.of<JobsTable>().jobs[job] = "record";
    batch.of<MetaTable>().marks["test"] = 1;
    std::promise<void> durable;
    database->write(std::move(batch), [&] { durable.set_value(); });
    durable.get_future().wait();
    return contents;
  }
  static void copy(const std::string& from, const std::string& to) {
    fs::copy(from, to, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  static void run(const std::string& command) {
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  std::string file(const std::string& name) const { return folder_.file(name); }

  TempDir folder_;
  const std::string state_ = folder_.file("state");
};

TEST_F(StateLife, GoesOnFromStartToStart) {
  const DatabaseContents first = start(state_);
  EXPECT_NE(first.life, 0u);
  EXPECT_TRUE(first.new_life);
  for (int time = 0; time < 3; ++time) {
    const DatabaseContents again = start(state_);
    EXPECT_EQ(again.life, first.life);
    EXPECT_FALSE(again.new_life) << *again.new_life;
  }
}

TEST_F(StateLife, EndsWhenTheFolderIsWiped) {
  const uint64_t life = start(state_).life;
  fs::remove_all(state_);
  EXPECT_NE(start(state_).life, life);
}

TEST_F(StateLife, EndsWhenTheDatabaseAloneIsGone) {
  const uint64_t life = start(state_).life;
  fs::remove(state_ + "/master.db");
  const DatabaseContents after = start(state_);
  EXPECT_NE(after.life, life);
  EXPECT_TRUE(after.new_life);
}

TEST_F(StateLife, EndsWithABackupHoweverItIsPutBack) {
  const uint64_t life = start(state_).life;
  Database::backup(state_, file("copy.db")).value_or_throw();
  // Over the database that is there, into an empty folder, and by our own command.
  fs::copy_file(file("copy.db"), state_ + "/master.db", fs::copy_options::overwrite_existing);
  const DatabaseContents in_place = start(state_);
  EXPECT_NE(in_place.life, life);
  fs::create_directory(file("elsewhere"));
  fs::copy_file(file("copy.db"), file("elsewhere/master.db"));
  const DatabaseContents elsewhere = start(file("elsewhere"));
  EXPECT_NE(elsewhere.life, life);
  EXPECT_NE(elsewhere.life, in_place.life);
  const std::string aside = restore_state(file("copy.db"), state_).value_or_throw();
  EXPECT_TRUE(fs::exists(aside + "/master.db"));
  const DatabaseContents restored = start(state_);
  EXPECT_NE(restored.life, in_place.life);
  EXPECT_FALSE(start(state_).new_life) << "and that one goes on";
}

TEST_F(StateLife, EndsWhenAnOldDatabaseIsCopiedBack) {
  const uint64_t life = start(state_).life;
  fs::copy_file(state_ + "/master.db", file("old.db"));
  EXPECT_EQ(start(state_).life, life);
  fs::copy_file(file("old.db"), state_ + "/master.db", fs::copy_options::overwrite_existing);
  const DatabaseContents after = start(state_);
  EXPECT_NE(after.life, life);
  EXPECT_THAT(*after.new_life, HasSubstr("put back from a copy"));
}

TEST_F(StateLife, EndsWhenTheWholeFolderIsPutBack) {
  const std::vector<std::string> ways = {"cp -a $C $S", "cp -r $C $S", "mv $C $S",
                                         "mkdir $S && tar -C $C -cf - . | tar -C $S -xf -"};
  for (const std::string& way : ways) {
    const uint64_t life = start(state_).life;
    ASSERT_NO_FATAL_FAILURE(
        run(str_cat("rm -rf ", file("c"), " && cp -a ", state_, " ", file("c"))));
    EXPECT_EQ(start(state_).life, life);
    ASSERT_NO_FATAL_FAILURE(
        run(str_cat("rm -rf ", state_, "; C=", file("c"), " S=", state_, " sh -c '", way, "'")));
    const DatabaseContents after = start(state_);
    EXPECT_NE(after.life, life) << way;
  }
}

TEST_F(StateLife, GoesOnWhenTheFolderIsOnlyRenamed) {
  const uint64_t life = start(state_).life;
  fs::rename(state_, file("renamed"));
  EXPECT_EQ(start(file("renamed")).life, life);
}

TEST_F(StateLife, EndsWhereAnOperatorSaysSo) {
  const uint64_t life = start(state_).life;
  begin_new_life(state_).value_or_throw();
  EXPECT_NE(start(state_).life, life);
  EXPECT_FALSE(begin_new_life(file("nothing")));
}

TEST_F(StateLife, EndsWithADatabaseOfAnOlderVersion) {
  fs::create_directory(state_);
  {
    auto sqlite = std::move(Sqlite::open(state_ + "/master.db", Sqlite::Mode::kReadWriteCreate))
                      .value_or_throw();
    migrate(sqlite, 6).value_or_throw();
    sqlite.execute("INSERT INTO meta VALUES('boot', 4), ('last_job', 9)").value_or_throw();
  }
  const DatabaseContents contents = start(state_);
  EXPECT_EQ(contents.boot, 5u);
  EXPECT_EQ(contents.last_job, 9u);
  EXPECT_NE(contents.life, 0u);
  EXPECT_FALSE(start(state_).new_life);
}

// Killed anywhere while it starts, the life goes on.
TEST_F(StateLife, OutlivesAKillAtAnyMomentOfAStart) {
  const uint64_t life = start(state_).life;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      DatabaseContents contents;
      const auto database = Database::open(state_, &contents);
      ::pause();
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(round) * 250);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    DatabaseContents contents = start(state_);
    ASSERT_EQ(contents.life, life) << round << ": " << contents.new_life.value_or("");
  }
}

// What lies there of jobs that the database does not know is not given to others.
TEST_F(StateLife, NumbersOfFilesThatAreThereAreNotGivenAgain) {
  start(state_, 3);
  fs::create_directories(state_ + "/output");
  fs::create_directories(state_ + "/results/9");
  std::ofstream(state_ + "/output/j12.log") << "x";
  std::ofstream(state_ + "/output/notes.txt") << "x";
  fs::remove(state_ + "/master.db");
  EXPECT_EQ(start(state_).last_job, 12u);
}

TEST_F(StateLife, AFileThatCannotBeUnderstoodIsNoGuess) {
  start(state_);
  for (const char* text :
       {"", "x", "longhaul-life 1 2 3\n", "longhaul-life 1 2 3 4", "longhaul-life 1 2 3 z\n"}) {
    std::ofstream(state_ + "/life", std::ios::trunc) << text;
    DatabaseContents contents;
    const auto refused = Database::open(state_, &contents);
    ASSERT_FALSE(refused) << text;
    EXPECT_THAT(refused.failure().message, HasSubstr("new-life"));
  }
  begin_new_life(state_).value_or_throw();
  EXPECT_TRUE(start(state_).new_life);
}

TEST_F(StateLife, RestoreTouchesNothingThatAMasterUses) {
  start(state_);
  Database::backup(state_, file("copy.db")).value_or_throw();
  DatabaseContents contents;
  const auto running = std::move(Database::open(state_, &contents)).value_or_throw();
  const auto refused = restore_state(file("copy.db"), state_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.failure().kind, ErrorKind::kInvalid);
  EXPECT_FALSE(begin_new_life(state_));
}

TEST_F(StateLife, RestoreTakesOnlyACopyOfOurs) {
  std::ofstream(file("text")) << std::string(8192, 'x');
  for (const std::string& bad : {file("text"), file("nothing")}) {
    const auto refused = restore_state(bad, state_);
    ASSERT_FALSE(refused) << bad;
    EXPECT_EQ(refused.failure().kind, ErrorKind::kInvalid);
  }
}

TEST_F(StateLife, RestoreBringsResultsThatAreFiles) {
  start(state_);
  fs::create_directories(state_ + "/results/7");
  std::ofstream(state_ + "/results/7/0.5") << "whole";
  Database::backup(state_, file("copy.db")).value_or_throw();
  fs::create_directories(file("copy.db.results/8"));
  std::ofstream(file("copy.db.results/8/1.6")) << "of the copy";
  restore_state(file("copy.db"), state_).value_or_throw();
  EXPECT_TRUE(fs::exists(state_ + "/results/8/1.6"));
  EXPECT_TRUE(fs::exists(state_ + "/results/7/0.5")) << "left where it was";
}

}  // namespace
}  // namespace longhaul::testing
