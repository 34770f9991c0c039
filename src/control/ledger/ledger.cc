#include "control/ledger/ledger.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <thread>
#include <utility>

#include "control/ledger/result_files.h"
#include "control/ledger/schema.h"
#include "longhaul/base/log.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxGroup = 512;  // batches in one transaction
constexpr milliseconds kRetry{500};

std::string database_path(const std::string& folder) {
  return folder + "/master.db";
}

Result<UniqueFd> lock_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return Failure{ErrorKind::kUnavailable,
                   str_cat("state folder ", folder, ": ", error.message())};
  }
  ::chmod(folder.c_str(), S_IRWXU);
  const std::string path = folder + "/lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
  if (!fd.valid()) {
    return Failure{ErrorKind::kUnavailable, str_cat(path, ": ", ::strerror(errno))};
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("state folder ", folder,
                           ": another master uses it; give this one another with --state")};
  }
  return fd;
}

// Calls `row` for every row of a query.
template <typename Row>
Result<void> each_row(Database& database, const char* sql, Row row) {
  Result<Statement> statement = database.prepare(sql);
  if (!statement) return statement.failure();
  while (true) {
    const Result<bool> more = statement->next();
    if (!more) return more.failure();
    if (!*more) return {};
    row(*statement);
  }
}

constexpr int64_t kNoFault = -1;
constexpr int64_t kNoDuration = -1;

TaskRecord task_of(const Statement& row) {
  TaskRecord task;
  task.task = static_cast<TaskIndex>(row.integer(1));
  task.state = static_cast<TaskState>(row.integer(2));
  task.attempt = static_cast<uint32_t>(row.integer(3));
  task.epoch = static_cast<LeaseEpoch>(row.integer(4));
  task.holder = {row.bytes(5), row.bytes(6)};
  const std::string failures = row.bytes(7);
  if (failures.size() == sizeof(task.failures)) {
    ::memcpy(task.failures.data(), failures.data(), failures.size());
  }
  if (row.integer(8) != kNoFault) task.last_fault = static_cast<FaultKind>(row.integer(8));
  task.reason = row.bytes(9);
  return task;
}

// The columns of a task behind its key, as task_of() reads them.
Statement& bind_task(Statement& statement, const TaskRecord& task) {
  const std::string_view failures(reinterpret_cast<const char*>(task.failures.data()),
                                  sizeof(task.failures));
  return statement.bind(static_cast<int64_t>(task.state))
      .bind(task.attempt)
      .bind(static_cast<int64_t>(task.epoch))
      .bind_text(task.holder.worker)
      .bind_text(task.holder.incarnation)
      .bind(failures)
      .bind(task.last_fault ? static_cast<int64_t>(*task.last_fault) : kNoFault)
      .bind(task.reason);
}

// Of a row of `tasks`, behind what task_of() reads.
TaskRecord timed_task_of(const Statement& row) {
  TaskRecord task = task_of(row);
  if (row.integer(10) != kNoDuration) task.ran_ms = static_cast<uint32_t>(row.integer(10));
  return task;
}

int64_t duration_of(const TaskRecord& task) {
  return task.ran_ms == kNotMeasured ? kNoDuration : int64_t{task.ran_ms};
}

// How many rows from `first` on fit one row of `grants`.
size_t granted_together(const std::vector<LedgerBatch::TaskRow>& rows, size_t first) {
  const TaskRecord& head = rows[first].task;
  size_t count = 0;
  while (first + count < rows.size()) {
    const auto& [job, task] = rows[first + count];
    const bool fits = job == rows[first].job && task.state == TaskState::kLeased &&
                      task.attempt == 1 && task.task == head.task + count &&
                      task.epoch == head.epoch + count && task.holder == head.holder;
    if (!fits) break;
    ++count;
  }
  return count;
}

// Tasks that have not moved since they were granted together. Follows the read of all that have.
Result<void> read_grants(Database& database, std::map<uint64_t, std::vector<TaskRecord>>& tasks) {
  std::map<uint64_t, std::vector<bool>> moved;
  for (const auto& [job, rows] : tasks) {
    std::vector<bool>& of_job = moved[job];
    for (const TaskRecord& row : rows) {
      if (of_job.size() <= row.task) of_job.resize(row.task + 1);
      of_job[row.task] = true;
    }
  }
  return each_row(database, "SELECT job, task, count, epoch, worker, incarnation FROM grants",
                  [&](const Statement& row) {
                    const auto job = static_cast<uint64_t>(row.integer(0));
                    const std::vector<bool>& of_job = moved[job];
                    TaskRecord task;
                    task.task = static_cast<TaskIndex>(row.integer(1));
                    task.state = TaskState::kLeased;
                    task.attempt = 1;
                    task.epoch = static_cast<LeaseEpoch>(row.integer(3));
                    task.holder = {row.bytes(4), row.bytes(5)};
                    for (int64_t left = row.integer(2); left > 0;
                         --left, ++task.task, ++task.epoch) {
                      if (task.task >= of_job.size() || !of_job[task.task])
                        tasks[job].push_back(task);
                    }
                  });
}

Result<LedgerContents> read_contents(Database& database) {
  LedgerContents contents;
  std::array reads = {
      each_row(database, "SELECT name, value FROM meta",
               [&](const Statement& row) {
                 const auto value = static_cast<uint64_t>(row.integer(1));
                 if (row.bytes(0) == "boot") contents.boot = value;
                 if (row.bytes(0) == "last_job") contents.last_job = value;
               }),
      each_row(database, "SELECT number, record FROM jobs",
               [&](const Statement& row) {
                 contents.jobs[static_cast<uint64_t>(row.integer(0))] = row.bytes(1);
               }),
      each_row(database, "SELECT id, record FROM workers",
               [&](const Statement& row) { contents.workers[row.bytes(0)] = row.bytes(1); }),
      each_row(database, "SELECT job, key, value FROM store",
               [&](const Statement& row) {
                 contents.stores[static_cast<uint64_t>(row.integer(0))][row.bytes(1)] =
                     row.bytes(2);
               }),
      each_row(database,
               "SELECT job, task, state, attempt, epoch, worker, incarnation, failures, last_fault,"
               " reason, ran_ms FROM tasks",
               [&](const Statement& row) {
                 contents.tasks[static_cast<uint64_t>(row.integer(0))].push_back(
                     timed_task_of(row));
               }),
      read_grants(database, contents.tasks),
      each_row(database, "SELECT job, input_set FROM input_sets",
               [&](const Statement& row) {
                 contents.input_sets[static_cast<uint64_t>(row.integer(0))] =
                     static_cast<uint64_t>(row.integer(1));
               }),
      each_row(database, "SELECT job, name, plan FROM datasets",
               [&](const Statement& row) {
                 const auto job = static_cast<uint64_t>(row.integer(0));
                 contents.datasets[job][row.bytes(1)].plan = row.bytes(2);
               }),
      each_row(database,
               "SELECT job, task, state, attempt, epoch, worker, incarnation, failures, last_fault,"
               " reason, dataset FROM shards",
               [&](const Statement& row) {
                 const auto job = static_cast<uint64_t>(row.integer(0));
                 contents.datasets[job][row.bytes(10)].shards.push_back(task_of(row));
               }),
      each_row(database,
               "SELECT job, first, inputs FROM inputs WHERE job < 1<<62 ORDER BY job, first",
               [&](const Statement& row) {
                 const auto job = static_cast<uint64_t>(row.integer(0));
                 contents.inputs[job].push_back(
                     {job, static_cast<TaskIndex>(row.integer(1)), row.bytes(2)});
               }),
      each_row(database, "SELECT number, record FROM events",
               [&](const Statement& row) {
                 contents.events[static_cast<uint64_t>(row.integer(0))] = row.bytes(1);
               }),
  };
  for (Result<void>& read : reads) {
    if (!read) return read.failure();
  }
  return contents;
}

}  // namespace

struct Ledger::Statements {
  Statement set_meta;
  Statement put_job;
  Statement drop_job;
  Statement put_worker;
  Statement drop_worker;
  Statement put_store;
  Statement erase_store;
  Statement drop_store;
  Statement put_task;
  Statement put_grant;
  Statement put_result;
  Statement put_inputs;
  Statement drop_tasks;
  Statement drop_grants;
  Statement drop_results;
  Statement drop_inputs;
  Statement put_event;
  Statement drop_events;
  Statement put_plan;
  Statement put_shard;
  Statement put_input_set;
  Statement drop_set_inputs;
  Statement drop_input_set;
  Statement drop_datasets;
  Statement drop_shards;

  static Result<std::unique_ptr<Statements>> prepare(Database& database) {
    auto statements = std::make_unique<Statements>();
    const std::pair<Statement*, const char*> wanted[] = {
        {&statements->set_meta,
         "INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET value=max(value, ?2)"},
        {&statements->put_job, "INSERT OR REPLACE INTO jobs VALUES(?, ?)"},
        {&statements->drop_job, "DELETE FROM jobs WHERE number=?"},
        {&statements->put_worker, "INSERT OR REPLACE INTO workers VALUES(?, ?)"},
        {&statements->drop_worker, "DELETE FROM workers WHERE id=?"},
        {&statements->put_store, "INSERT OR REPLACE INTO store VALUES(?, ?, ?)"},
        {&statements->erase_store, "DELETE FROM store WHERE job=? AND key=?"},
        {&statements->drop_store, "DELETE FROM store WHERE job=?"},
        {&statements->put_task,
         "INSERT OR REPLACE INTO tasks VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
        {&statements->put_grant, "INSERT OR REPLACE INTO grants VALUES(?, ?, ?, ?, ?)"},
        {&statements->put_result, "INSERT INTO results VALUES(?, ?, ?, ?, ?, ?)"},
        {&statements->put_inputs, "INSERT OR REPLACE INTO inputs VALUES(?, ?, ?)"},
        {&statements->drop_tasks, "DELETE FROM tasks WHERE place>=?1<<32 AND place<(?1+1)<<32"},
        {&statements->drop_grants, "DELETE FROM grants WHERE place>=?1<<32 AND place<(?1+1)<<32"},
        {&statements->drop_results, "DELETE FROM results WHERE place>=?1<<32 AND place<(?1+1)<<32"},
        {&statements->drop_inputs, "DELETE FROM inputs WHERE job=?"},
        {&statements->put_event, "INSERT OR REPLACE INTO events VALUES(?, ?)"},
        {&statements->drop_events, "DELETE FROM events WHERE number<?"},
        {&statements->put_plan, "INSERT OR REPLACE INTO datasets VALUES(?, ?, ?)"},
        {&statements->put_shard,
         "INSERT OR REPLACE INTO shards VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
        {&statements->put_input_set, "INSERT OR REPLACE INTO input_sets VALUES(?, ?)"},
        {&statements->drop_set_inputs,
         "DELETE FROM inputs WHERE job=(SELECT input_set FROM input_sets WHERE job=?)"},
        {&statements->drop_input_set, "DELETE FROM input_sets WHERE job=?"},
        {&statements->drop_datasets, "DELETE FROM datasets WHERE job=?"},
        {&statements->drop_shards, "DELETE FROM shards WHERE job=?"},
    };
    for (const auto& [statement, sql] : wanted) {
      Result<Statement> prepared = database.prepare(sql);
      if (!prepared) return prepared.failure();
      *statement = std::move(*prepared);
    }
    return statements;
  }
};

Result<std::unique_ptr<Ledger>> Ledger::open(const std::string& folder, LedgerContents* contents) {
  Result<UniqueFd> lock = lock_folder(folder);
  if (!lock) return lock.failure();
  const std::string path = database_path(folder);
  Result<Database> database = Database::open(path, Database::Mode::kReadWriteCreate);
  if (!database) return database.failure();
  ::chmod(path.c_str(), S_IRUSR | S_IWUSR);
  Result<void> migrated = migrate(*database);
  if (!migrated) {
    return Failure{migrated.failure().kind, str_cat(path, ": ", migrated.failure().message)};
  }
  // FULL: a commit is on disk before it returns. Without it WAL may lose the last ones with power.
  Result<void> tuned = database->execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
  if (!tuned) return tuned.failure();
  // Of submissions that broke off with an earlier master.
  Result<void> swept = database->execute(
      "DELETE FROM inputs WHERE job >= 1<<62 AND job NOT IN (SELECT input_set FROM input_sets)");
  if (!swept) return swept.failure();
  Result<LedgerContents> read = read_contents(*database);
  if (!read) return read.failure();
  *contents = std::move(*read);
  ++contents->boot;
  Result<std::unique_ptr<Statements>> statements = Statements::prepare(*database);
  if (!statements) return statements.failure();
  // Before anything is granted under it.
  Result<void> booted =
      (*statements)->set_meta.bind_text("boot").bind(static_cast<int64_t>(contents->boot)).run();
  if (!booted) return booted.failure();
  return std::unique_ptr<Ledger>(
      new Ledger(std::move(*lock), std::move(*database), std::move(*statements)));
}

Ledger::Ledger(UniqueFd lock, Database database, std::unique_ptr<Statements> statements)
    : lock_(std::move(lock)),
      database_(std::move(database)),
      statements_(std::move(statements)),
      thread_("lh-ledger", [this] { run(); }) {}

Ledger::~Ledger() {
  entries_.close();
  thread_.join();
}

void Ledger::write(LedgerBatch batch, std::function<void()> durable) {
  entries_.push({std::move(batch), std::move(durable)});
}

std::optional<std::string> Ledger::trouble() const {
  MutexLock lock(mutex_);
  return trouble_;
}

void Ledger::set_trouble(std::optional<std::string> why) {
  MutexLock lock(mutex_);
  if (why && why != trouble_) {
    log(LogLevel::kError, "master", "the ledger takes nothing: ", *why,
        "; running jobs go on, new ones are refused, trying again");
  }
  if (!why && trouble_) log(LogLevel::kInfo, "master", "the ledger is written again");
  trouble_ = std::move(why);
}

void Ledger::run() {
  while (std::optional<Entry> first = entries_.pop()) {
    std::vector<Entry> group;
    group.push_back(std::move(*first));
    // Whatever came while the disk was busy shares the next transaction.
    while (group.size() < kMaxGroup) {
      std::optional<Entry> next = entries_.pop_until(Instant::min());
      if (!next) break;
      group.push_back(std::move(*next));
    }
    for (Result<void> done = commit(group); !done; done = commit(group)) {
      set_trouble(done.failure().message);
      if (entries_.closed()) return;
      std::this_thread::sleep_for(kRetry);
    }
    set_trouble(std::nullopt);
    for (const Entry& entry : group) entry.durable();
  }
}

Result<void> Ledger::commit(const std::vector<Entry>& entries) {
  Result<void> done = database_.execute("BEGIN IMMEDIATE");
  for (const Entry& entry : entries) {
    if (done) done = write_rows(entry.batch);
  }
  if (done) done = database_.execute("COMMIT");
  // SQLite may have rolled back by itself; then there is nothing left to do here.
  if (!done) (void)database_.execute("ROLLBACK");
  return done;
}

Result<void> Ledger::write_rows(const LedgerBatch& batch) {
  Statements& to = *statements_;
  for (const auto& [number, record] : batch.jobs) {
    const auto key = static_cast<int64_t>(number);
    Result<void> done =
        record ? to.put_job.bind(key).bind(*record).run() : to.drop_job.bind(key).run();
    // Numbers of forgotten jobs are not given again.
    if (done && record) done = to.set_meta.bind_text("last_job").bind(key).run();
    for (Statement* drop :
         {&to.drop_store, &to.drop_tasks, &to.drop_grants, &to.drop_results, &to.drop_inputs,
          &to.drop_set_inputs, &to.drop_input_set, &to.drop_datasets, &to.drop_shards}) {
      if (done && !record) done = drop->bind(key).run();
    }
    if (!done) return done;
  }
  for (const auto& [id, record] : batch.workers) {
    Result<void> done = record ? to.put_worker.bind_text(id).bind(*record).run()
                               : to.drop_worker.bind_text(id).run();
    if (!done) return done;
  }
  for (const LedgerBatch::StoreRow& row : batch.store) {
    const auto job = static_cast<int64_t>(row.job);
    Result<void> done = !row.key    ? to.drop_store.bind(job).run()
                        : row.value ? to.put_store.bind(job).bind(*row.key).bind(*row.value).run()
                                    : to.erase_store.bind(job).bind(*row.key).run();
    if (!done) return done;
  }
  for (const InputRow& row : batch.inputs) {
    Result<void> done =
        to.put_inputs.bind(static_cast<int64_t>(row.job)).bind(row.first).bind(row.inputs).run();
    if (!done) return done;
  }
  if (Result<void> done = write_tasks(batch.tasks); !done) return done;
  for (const ResultRow& row : batch.results) {
    Result<void> done = to.put_result.bind(place_of(row.job, row.task))
                            .bind(row.attempt)
                            .bind(static_cast<int64_t>(row.epoch))
                            .bind(static_cast<int64_t>(row.bytes))
                            .bind(row.result)
                            .bind(static_cast<int64_t>(row.file_bytes))
                            .run();
    if (!done) return done;
  }
  for (const auto& [number, record] : batch.events) {
    Result<void> done = to.put_event.bind(static_cast<int64_t>(number)).bind(record).run();
    if (!done) return done;
  }
  if (!batch.events.empty()) {
    Result<void> done = to.drop_events.bind(static_cast<int64_t>(batch.first_event)).run();
    if (!done) return done;
  }
  for (const auto& [job, set] : batch.input_sets) {
    Result<void> done =
        to.put_input_set.bind(static_cast<int64_t>(job)).bind(static_cast<int64_t>(set)).run();
    if (!done) return done;
  }
  for (const uint64_t set : batch.dropped_inputs) {
    Result<void> done = to.drop_inputs.bind(static_cast<int64_t>(set)).run();
    if (!done) return done;
  }
  return write_shards(batch);
}

Result<void> Ledger::write_tasks(const std::vector<LedgerBatch::TaskRow>& rows) {
  for (size_t i = 0; i < rows.size();) {
    const auto& [job, task] = rows[i];
    const size_t together = granted_together(rows, i);
    // A single grant may as well take the place that its end will have.
    Result<void> done = together > 1
                            ? statements_->put_grant.bind(place_of(job, task.task))
                                  .bind(static_cast<int64_t>(together))
                                  .bind(static_cast<int64_t>(task.epoch))
                                  .bind_text(task.holder.worker)
                                  .bind_text(task.holder.incarnation)
                                  .run()
                            : bind_task(statements_->put_task.bind(place_of(job, task.task)), task)
                                  .bind(duration_of(task))
                                  .run();
    if (!done) return done;
    i += std::max<size_t>(together, 1);
  }
  return {};
}

Result<void> Ledger::write_shards(const LedgerBatch& batch) {
  for (const LedgerBatch::PlanRow& row : batch.plans) {
    Result<void> done = statements_->put_plan.bind(static_cast<int64_t>(row.job))
                            .bind(row.dataset)
                            .bind(row.plan)
                            .run();
    if (!done) return done;
  }
  for (const LedgerBatch::ShardRow& row : batch.shards) {
    Result<void> done =
        bind_task(statements_->put_shard.bind(static_cast<int64_t>(row.job)).bind(row.shard.task),
                  row.shard)
            .bind(row.dataset)
            .run();
    if (!done) return done;
  }
  return {};
}

Result<ResultReader> ResultReader::open(const std::string& folder) {
  Result<Database> database = Database::open(database_path(folder), Database::Mode::kReadOnly);
  if (!database) return database.failure();
  return ResultReader(std::move(*database));
}

Result<std::vector<EndedRow>> ResultReader::read(uint64_t job, TaskIndex first, TaskIndex end,
                                                 size_t limit) {
  Result<Statement> statement = database_.prepare(
      "SELECT tasks.job, tasks.task, state, tasks.attempt, tasks.epoch, worker, incarnation,"
      " failures, last_fault, reason, ran_ms, results.attempt, results.epoch, bytes, result,"
      " file_bytes FROM tasks LEFT JOIN results ON results.place=tasks.place"
      " WHERE tasks.place>=? AND tasks.place<? ORDER BY tasks.place LIMIT ?");
  if (!statement) return statement.failure();
  statement->bind(place_of(job, first)).bind(place_of(job, end)).bind(static_cast<int64_t>(limit));
  std::vector<EndedRow> rows;
  while (true) {
    const Result<bool> more = statement->next();
    if (!more) return more.failure();
    if (!*more) return rows;
    EndedRow& row = rows.emplace_back(EndedRow{timed_task_of(*statement), std::nullopt});
    // An attempt counts from 1 on: 0 is what a row that is not there reads as.
    if (statement->integer(11) == 0) continue;
    row.result = ResultRow{job,
                           row.task.task,
                           static_cast<uint32_t>(statement->integer(11)),
                           static_cast<LeaseEpoch>(statement->integer(12)),
                           static_cast<uint64_t>(statement->integer(13)),
                           statement->bytes(14),
                           static_cast<uint64_t>(statement->integer(15))};
  }
}

Result<InputReader> InputReader::open(const std::string& folder) {
  Result<Database> database = Database::open(database_path(folder), Database::Mode::kReadOnly);
  if (!database) return database.failure();
  return InputReader(std::move(*database));
}

Result<InputRow> InputReader::read(uint64_t set, TaskIndex task) {
  Result<Statement> statement = database_.prepare(
      "SELECT first, inputs FROM inputs WHERE job=? AND first<=? ORDER BY first DESC LIMIT 1");
  if (!statement) return statement.failure();
  const Result<bool> found = statement->bind(static_cast<int64_t>(set)).bind(task).next();
  if (!found) return found.failure();
  if (!*found) return Failure{ErrorKind::kCorrupt, str_cat("task ", task, " has no input on disk")};
  return InputRow{set, static_cast<TaskIndex>(statement->integer(0)), statement->bytes(1)};
}

namespace {

// Those that the copy tells of, beside it. They never change once a row names them.
Result<void> backup_result_files(const std::string& folder, const std::string& path) {
  Result<Database> copy = Database::open(path, Database::Mode::kReadOnly);
  if (!copy) return copy.failure();
  std::vector<ResultName> names;
  Result<void> read = each_row(*copy, "SELECT job, task, epoch FROM results WHERE file_bytes>0",
                               [&](const Statement& row) {
                                 names.push_back({static_cast<uint64_t>(row.integer(0)),
                                                  static_cast<TaskIndex>(row.integer(1)),
                                                  static_cast<LeaseEpoch>(row.integer(2))});
                               });
  for (const ResultName& name : names) {
    if (read) read = copy_result_file(folder, name, path + ".results");
  }
  return read;
}

}  // namespace

Result<void> Ledger::backup(const std::string& folder, const std::string& path) {
  if (fs::exists(path)) {
    return Failure{ErrorKind::kInvalid, str_cat(path, ": exists already; name a new file")};
  }
  if (!fs::exists(database_path(folder))) {
    return Failure{ErrorKind::kInvalid, str_cat(folder, ": holds no master.db")};
  }
  Result<Database> database = Database::open(database_path(folder), Database::Mode::kReadOnly);
  if (!database) return database.failure();
  Result<void> copied = database->copy_to(path);
  if (!copied) return copied;
  return backup_result_files(folder, path);
}

}  // namespace longhaul
