// A failed read of an input is never an input.
#include "control/master/results/task_inputs.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <future>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "tests/support/temp_dir.h"

namespace longhaul::testing {
namespace {

class TaskInputsTest : public ::testing::Test {
 protected:
  static ArrayJobSpec array(TaskIndex tasks, const std::string& indices = "") {
    ArrayJobSpec array;
    array.tasks = tasks;
    array.indices = indices;
    return array;
  }
  void write(std::vector<InputRow> rows) {
    DatabaseBatch batch;
    batch.of<InputsTable>().inputs = std::move(rows);
    batch.of<JobsTable>().jobs[3] = "the job";
    std::promise<void> durable;
    database_->write(std::move(batch), [&] { durable.set_value(); });
    durable.get_future().wait();
  }
  void expect_failure(TaskInputs& inputs, TaskIndex task, ErrorKind kind) {
    const Result<std::string> input = inputs.input(task, reader_);
    ASSERT_FALSE(input) << "'" << *input << "'";
    EXPECT_EQ(input.failure().kind, kind) << input.failure().message;
  }

  TempDir folder_;
  DatabaseContents contents_;
  std::unique_ptr<Database> database_ =
      std::move(Database::open(folder_.path(), &contents_)).value_or_throw();
  InputReader reader_{folder_.path()};
};

TEST_F(TaskInputsTest, EachTaskHasItsOwn) {
  std::vector<std::string> all;
  all.reserve(3000);
  for (int task = 0; task < 3000; ++task) all.push_back("input " + std::to_string(task));
  write(TaskInputs::rows(3, all));
  TaskInputs inputs(array(3000), 3);
  for (const TaskIndex task : {0, 1023, 1024, 2999, 5}) {
    EXPECT_EQ(inputs.input(task, reader_).value_or_throw(), all[task]);
  }
  expect_failure(inputs, 3000, ErrorKind::kCorrupt);
}

TEST_F(TaskInputsTest, AnEmptyInputIsOne) {
  write(TaskInputs::rows(3, {"", "x"}));
  TaskInputs inputs(array(2), 3);
  EXPECT_EQ(inputs.input(0, reader_).value_or_throw(), "");
}

TEST_F(TaskInputsTest, ARowThatIsMissingDamagedOrOfAnotherKindIsNoInput) {
  write({{3, 0, TaskInputs::rows(3, {"a", "b"})[0].inputs}, {3, 2, "\xff\xff\xff no inputs"}});
  TaskInputs inputs(array(4), 3);
  EXPECT_EQ(inputs.input(1, reader_).value_or_throw(), "b");
  expect_failure(inputs, 2, ErrorKind::kCorrupt);
  EXPECT_EQ(inputs.input(0, reader_).value_or_throw(), "a") << "the row before is as it was";
  TaskInputs other(array(4), 4);
  expect_failure(other, 0, ErrorKind::kCorrupt);
  {
    auto database = std::move(Sqlite::open(folder_.file("master.db"), Sqlite::Mode::kReadWrite))
                        .value_or_throw();
    database.execute("UPDATE inputs SET inputs=7 WHERE first=0").value_or_throw();
  }
  TaskInputs again(array(4), 3);
  expect_failure(again, 0, ErrorKind::kCorrupt);
}

TEST_F(TaskInputsTest, IndicesThatCannotBeReadAreNone) {
  TaskInputs inputs(array(2, "5,7"), 3);
  EXPECT_EQ(inputs.input(1, reader_).value_or_throw(), "7");
  expect_failure(inputs, 2, ErrorKind::kCorrupt);
  TaskInputs broken(array(2, "5-"), 3);
  expect_failure(broken, 0, ErrorKind::kCorrupt);
}

// Takes every descriptor that is left.
class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit low = before_;
    low.rlim_cur = 256;
    ::setrlimit(RLIMIT_NOFILE, &low);
    while (true) {
      UniqueFd fd(::open("/dev/null", O_RDONLY));
      if (!fd.valid()) break;
      held_.push_back(std::move(fd));
    }
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
  std::vector<UniqueFd> held_;
};

TEST_F(TaskInputsTest, WithoutADescriptorItIsReadOrRefusedButNeverEmpty) {
  write(TaskInputs::rows(3, {"a"}));
  {
    const NoDescriptors none;
    TaskInputs inputs(array(1), 3);
    expect_failure(inputs, 0, ErrorKind::kUnavailable);
  }
  reader_.open().value_or_throw();
  write(TaskInputs::rows(3, {"b"}));
  const NoDescriptors none;
  TaskInputs inputs(array(1), 3);
  EXPECT_EQ(inputs.input(0, reader_).value_or_throw(), "b") << "what it needs is open";
}

}  // namespace
}  // namespace longhaul::testing
