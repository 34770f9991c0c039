#include "control/database/database.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <iterator>
#include <thread>
#include <utility>

#include "base/log.h"
#include "control/database/life_file.h"
#include "control/database/result_files.h"
#include "control/database/schema.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxGroup = 512;  // batches in one transaction
constexpr milliseconds kRetry{500};
constexpr int kLooksAtDamage = 5;
constexpr uint64_t kMostJobs = uint64_t{1} << 31;  // schema.h

std::string database_path(const std::string& folder) {
  return folder + "/master.db";
}

// Calls `row` for every row of a query. One that is damaged comes too, and says so.
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
// No state of a task: its row cannot be understood.
constexpr auto kUnreadable = static_cast<TaskState>(UINT8_MAX);

TaskRecord task_of(const Statement& row) {
  TaskRecord task;
  task.task = static_cast<TaskIndex>(row.integer(1));
  const int64_t state = row.integer(2);
  const bool known = state >= 0 && state < static_cast<int64_t>(kTaskStates);
  task.state = known ? static_cast<TaskState>(state) : kUnreadable;
  task.attempt = static_cast<uint32_t>(row.integer(3));
  task.epoch = static_cast<LeaseEpoch>(row.integer(4));
  task.holder = {row.bytes(5), row.bytes(6)};
  const std::string failures = row.bytes(7);
  if (failures.size() == sizeof(task.failures)) {
    ::memcpy(task.failures.data(), failures.data(), failures.size());
  } else {
    task.state = kUnreadable;
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

// Of a row of `tasks` with what there is of it in `results`, from column 11 on.
EndedRow ended_row_of(uint64_t job, const Statement& row) {
  EndedRow ended{timed_task_of(row), std::nullopt};
  if (row.integer(11) == 0) return ended;
  ended.result = ResultRow{job,
                           ended.task.task,
                           static_cast<uint32_t>(row.integer(12)),
                           static_cast<LeaseEpoch>(row.integer(13)),
                           static_cast<uint64_t>(row.integer(14)),
                           row.bytes(15),
                           static_cast<uint64_t>(row.integer(16)),
                           ""};
  return ended;
}

// Nothing of it is to be used but that it is there.
void mark_damaged(EndedRow& row, uint64_t job, const std::string& why) {
  TaskRecord task;
  task.task = row.task.task;
  task.state = TaskState::kDone;
  row.task = task;
  row.result = ResultRow{job, task.task, 0, 0, 0, "", 0, why};
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

// Reads all there is, and notes which rows cannot be read: those of a job say whose they are.
class ContentsReader {
 public:
  explicit ContentsReader(Database& database) : database_(database) {}

  Result<LedgerContents> read() {
    std::array reads = {marks(),      jobs(),  workers(), stores(), tasks(),  grants(),
                        input_sets(), plans(), shards(),  events(), dropped()};
    for (Result<void>& read : reads) {
      if (!read) return read.failure();
    }
    return std::move(contents_);
  }

 private:
  static uint64_t job_of(const Statement& row) { return static_cast<uint64_t>(row.integer(0)); }

  // Of a table whose rows begin with the number of their job.
  template <typename Row>
  Result<void> of_jobs(const char* what, const char* sql, Row row) {
    return each_row(database_, sql, [&](const Statement& one) {
      const uint64_t job = job_of(one);
      row(job, one);
      if (!one.intact()) contents_.damaged.try_emplace(job, what);
    });
  }
  template <typename Row>
  Result<void> of_nobody(const char* what, const char* sql, Row row) {
    return each_row(database_, sql, [&](const Statement& one) {
      row(one);
      if (!one.intact()) contents_.unreadable.push_back(str_cat("a row of ", what));
    });
  }

  Result<void> marks() {
    return of_nobody("meta", "SELECT name, value FROM meta", [this](const Statement& row) {
      contents_.marks[row.bytes(0)] = row.integer(1);
    });
  }
  Result<void> jobs() {
    return of_jobs(
        "its own row", "SELECT number, record FROM jobs",
        [this](uint64_t job, const Statement& row) { contents_.jobs[job] = row.bytes(1); });
  }
  Result<void> workers() {
    return of_nobody("workers", "SELECT id, record FROM workers", [this](const Statement& row) {
      contents_.workers[row.bytes(0)] = row.bytes(1);
    });
  }
  Result<void> stores() {
    return of_jobs("a value of its rendezvous store", "SELECT job, key, value FROM store",
                   [this](uint64_t job, const Statement& row) {
                     contents_.stores[job][row.bytes(1)] = row.bytes(2);
                   });
  }
  Result<void> tasks() {
    return of_jobs("a task",
                   "SELECT job, task, state, attempt, epoch, worker, incarnation, failures,"
                   " last_fault, reason, ran_ms FROM tasks",
                   [this](uint64_t job, const Statement& row) {
                     contents_.tasks[job].push_back(timed_task_of(row));
                   });
  }
  // Tasks that have not moved since they were granted together. Follows the read of all that have.
  Result<void> grants() {
    std::map<uint64_t, std::vector<bool>> moved;
    for (const auto& [job, rows] : contents_.tasks) {
      std::vector<bool>& of_job = moved[job];
      for (const TaskRecord& row : rows) {
        if (row.task >= kMaxTasks) continue;  // damaged: the job will not go on
        if (of_job.size() <= row.task) of_job.resize(row.task + 1);
        of_job[row.task] = true;
      }
    }
    return of_jobs("a grant", "SELECT job, task, count, epoch, worker, incarnation FROM grants",
                   [&](uint64_t job, const Statement& row) {
                     const int64_t count = row.integer(2);
                     if (count < 1 || count > kMaxTasks) {
                       contents_.damaged.try_emplace(job, "a grant");
                     } else {
                       add_granted(job, row, count, moved[job]);
                     }
                   });
  }
  void add_granted(uint64_t job, const Statement& row, int64_t count,
                   const std::vector<bool>& moved) {
    TaskRecord task;
    task.task = static_cast<TaskIndex>(row.integer(1));
    task.state = TaskState::kLeased;
    task.attempt = 1;
    task.epoch = static_cast<LeaseEpoch>(row.integer(3));
    task.holder = {row.bytes(4), row.bytes(5)};
    for (; count > 0; --count, ++task.task, ++task.epoch) {
      if (task.task >= moved.size() || !moved[task.task]) contents_.tasks[job].push_back(task);
    }
  }
  Result<void> input_sets() {
    return of_jobs("where its inputs are", "SELECT job, input_set FROM input_sets",
                   [this](uint64_t job, const Statement& row) {
                     contents_.input_sets[job] = static_cast<uint64_t>(row.integer(1));
                   });
  }
  Result<void> plans() {
    return of_jobs("a dataset", "SELECT job, name, plan FROM datasets",
                   [this](uint64_t job, const Statement& row) {
                     contents_.datasets[job][row.bytes(1)].plan = row.bytes(2);
                   });
  }
  Result<void> shards() {
    return of_jobs("a shard",
                   "SELECT job, task, state, attempt, epoch, worker, incarnation, failures,"
                   " last_fault, reason, dataset FROM shards",
                   [this](uint64_t job, const Statement& row) {
                     contents_.datasets[job][row.bytes(10)].shards.push_back(task_of(row));
                   });
  }
  Result<void> events() {
    return of_nobody("the journal", "SELECT number, record FROM events",
                     [this](const Statement& row) {
                       contents_.events[static_cast<uint64_t>(row.integer(0))] = row.bytes(1);
                     });
  }
  Result<void> dropped() {
    return of_nobody("dropped", "SELECT job FROM dropped",
                     [this](const Statement& row) { contents_.dropped.push_back(job_of(row)); });
  }

  Database& database_;
  LedgerContents contents_;
};

// The jobs of which files lie in the folder, whether the database knows them or not: their numbers
// are not to be given again.
Result<uint64_t> highest_number_in_files(const std::string& folder) {
  uint64_t highest = 0;
  for (const char* kept : {"/results", "/output"}) {
    std::error_code error;
    for (fs::directory_iterator file(folder + kept, error), end; !error && file != end;
         file.increment(error)) {
      std::string name = file->path().stem().string();  // "12", or "j12" of "j12.log"
      if (name.starts_with('j')) name.erase(0, 1);
      uint64_t number = 0;
      const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
      if (parsed.ec != std::errc() || parsed.ptr != name.data() + name.size()) continue;
      if (number < kMostJobs) highest = std::max(highest, number);
    }
    if (error && error != std::errc::no_such_file_or_directory) {
      return Failure{ErrorKind::kUnavailable, str_cat(folder, kept, ": ", error.message())};
    }
  }
  return highest;
}

// Of this version, and as it is to be written. Errors: those of Ledger::open().
Result<Database> open_database(const std::string& folder) {
  const std::string path = database_path(folder);
  Result<Database> database = Database::open(path, Database::Mode::kReadWriteCreate);
  if (!database) return database;
  ::chmod(path.c_str(), S_IRUSR | S_IWUSR);
  Result<void> ready = migrate(*database);
  // FULL: a commit is on disk before it returns. Without it WAL may lose the last ones with power.
  if (ready) ready = database->execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
  if (!ready) return Failure{ready.failure().kind, str_cat(path, ": ", ready.failure().message)};
  return database;
}

// Without one byte of room: SQLite keeps in memory what else is a file beside the database. Nobody
// else can read it meanwhile.
Result<Database> open_on_full_disk(const std::string& folder) {
  Result<Database> database = Database::open(database_path(folder), Database::Mode::kReadWrite);
  if (!database) return database;
  Result<void> ready = database->execute("PRAGMA locking_mode=EXCLUSIVE");
  if (!ready) return ready.failure();
  const Result<int64_t> version = version_of_ours(*database);
  if (!version) return version.failure();
  if (*version == schema_version()) return database;
  return Failure{ErrorKind::kExhausted,
                 "it is of an older version, and there is no room to change it"};
}

struct OpenedDatabase {
  Database database;
  bool full = false;  // it can only be read
};

Result<OpenedDatabase> open_whatever_the_disk(const std::string& folder) {
  Result<Database> database = open_database(folder);
  if (database) return OpenedDatabase{std::move(*database)};
  const ErrorKind kind = database.failure().kind;
  if (kind != ErrorKind::kExhausted && kind != ErrorKind::kUnavailable) return database.failure();
  Result<Database> readable = open_on_full_disk(folder);
  if (!readable) return database.failure();
  return OpenedDatabase{std::move(*readable), true};
}

// Which life this start belongs to, and how it is told from others from now on.
struct LifeOfStart {
  LifeFile file;  // of this start; the seal of the one before first, where there is one
  std::optional<std::string> new_life;
};

Result<LifeOfStart> life_of_start(const std::string& folder, LedgerContents& contents) {
  DatabaseLife database;
  database.life = static_cast<uint64_t>(contents.marks["life"]);
  database.seal = static_cast<uint64_t>(contents.marks["seal"]);
  Result<void> identified = identify(database_path(folder), &database);
  if (!identified) return identified.failure();
  const Result<std::optional<LifeFile>> beside = read_life_file(folder);
  if (!beside) return beside.failure();
  LifeOfStart start{
      {database.life, {database.seal, random_life()}, database.inode, database.born_ns},
      why_new_life(database, *beside)};
  if (start.new_life)
    start.file = {random_life(), {random_life()}, database.inode, database.born_ns};
  return start;
}

}  // namespace

Result<UniqueFd> lock_state_folder(const std::string& folder) {
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

struct Ledger::Statements {
  Statement raise_meta;
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
  Statement note_dropped;
  Statement forget_dropped;

  static Result<std::unique_ptr<Statements>> prepare(Database& database) {
    auto statements = std::make_unique<Statements>();
    const std::pair<Statement*, const char*> wanted[] = {
        {&statements->raise_meta,
         "INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET value=max(value, ?2)"},
        {&statements->set_meta, "INSERT OR REPLACE INTO meta VALUES(?, ?)"},
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
        {&statements->note_dropped, "INSERT OR REPLACE INTO dropped VALUES(?)"},
        {&statements->forget_dropped, "DELETE FROM dropped WHERE job=?"},
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
  Result<UniqueFd> lock = lock_state_folder(folder);
  if (!lock) return lock.failure();
  Result<OpenedDatabase> opened = open_whatever_the_disk(folder);
  if (!opened) return opened.failure();
  Result<LedgerContents> read = ContentsReader(opened->database).read();
  if (!read) return read.failure();
  const Result<uint64_t> highest = highest_number_in_files(folder);
  if (!highest) return highest.failure();
  const Result<LifeOfStart> life = life_of_start(folder, *read);
  if (!life) return life.failure();
  *contents = std::move(*read);
  contents->boot = static_cast<uint64_t>(contents->marks["boot"]) + 1;
  contents->last_job = std::max(static_cast<uint64_t>(contents->marks["last_job"]), *highest);
  contents->life = life->file.life;
  contents->new_life = life->new_life;

  LedgerBatch first;  // before anything is granted in this life of the master
  first.marks = {{"boot", static_cast<int64_t>(contents->boot)},
                 {"last_job", static_cast<int64_t>(contents->last_job)},
                 {"life", static_cast<int64_t>(life->file.life)},
                 {"seal", static_cast<int64_t>(life->file.seals.back())}};
  std::unique_ptr<Ledger> ledger(new Ledger(std::move(*lock), folder, life->file));
  if (!opened->full) ledger->database_ = std::move(opened->database);
  ledger->write(std::move(first), [] {});
  return ledger;
}

Ledger::Ledger(UniqueFd lock, std::string folder, LifeFile life)
    : lock_(std::move(lock)),
      folder_(std::move(folder)),
      life_(std::move(life)),
      thread_("lh-ledger", [this] { run(); }) {}

Ledger::~Ledger() {
  entries_.close();
  thread_.join();
}

void Ledger::write(LedgerBatch batch, std::function<void()> durable) {
  entries_.push({std::move(batch), std::move(durable)});
}

std::optional<Failure> Ledger::trouble() const {
  MutexLock lock(mutex_);
  return trouble_;
}

void Ledger::on_broken(const std::function<void(const Failure&)>& callback) {
  std::optional<Failure> broken;
  {
    MutexLock lock(mutex_);
    on_broken_ = callback;
    if (trouble_ && trouble_->kind != ErrorKind::kExhausted) broken = trouble_;
  }
  if (broken) callback(*broken);
}

void Ledger::set_trouble(std::optional<Failure> why) {
  MutexLock lock(mutex_);
  if (why && (!trouble_ || why->message != trouble_->message)) {
    log(LogLevel::kError, "master", "the ledger takes nothing: ", why->message,
        why->kind == ErrorKind::kExhausted
            ? "; running jobs go on, new ones are refused, trying again"
            : "; that will not mend itself");
  }
  if (!why && trouble_) log(LogLevel::kInfo, "master", "the ledger is written again");
  trouble_ = std::move(why);
}

// False: nothing will ever be written again, or nobody waits any more.
bool Ledger::write_group(const std::vector<Entry>& group) {
  int looks_left = kLooksAtDamage;
  while (true) {
    const Result<void> done = commit(group);
    if (done) break;
    const ErrorKind kind = done.failure().kind;
    // A read that failed looks like damage to SQLite; what is damaged still is when looked at
    // again.
    if (kind == ErrorKind::kCorrupt && --looks_left > 0) continue;
    const bool for_good = kind == ErrorKind::kCorrupt || kind == ErrorKind::kInternal;
    set_trouble(Failure{for_good ? kind : ErrorKind::kExhausted, done.failure().message});
    if (for_good) {
      MutexLock lock(mutex_);
      if (on_broken_) on_broken_(*trouble_);
      return false;
    }
    if (entries_.closed()) return false;
    std::this_thread::sleep_for(kRetry);
  }
  set_trouble(std::nullopt);
  for (const Entry& entry : group) entry.durable();
  return true;
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
    if (!write_group(group)) return;
  }
}

// Before the first batch.
Result<void> Ledger::get_ready() {
  if (statements_) return {};
  if (!database_) {
    Result<Database> database = open_database(folder_);
    if (!database) return database.failure();
    database_ = std::move(*database);
  }
  // From here to the commit either seal is right.
  Result<void> announced = write_life_file(folder_, life_);
  if (!announced) return announced;
  // Of submissions that broke off with an earlier master.
  Result<void> swept = database_->execute(
      "DELETE FROM inputs WHERE job >= 1<<62 AND job NOT IN (SELECT input_set FROM input_sets)");
  if (!swept) return swept;
  Result<std::unique_ptr<Statements>> statements = Statements::prepare(*database_);
  if (!statements) return statements.failure();
  statements_ = std::move(*statements);
  return {};
}

Result<void> Ledger::commit(const std::vector<Entry>& entries) {
  if (Result<void> ready = get_ready(); !ready) return ready;
  Result<void> done = database_->execute("BEGIN IMMEDIATE");
  for (const Entry& entry : entries) {
    if (done) done = write_rows(entry.batch);
  }
  if (done) done = database_->execute("COMMIT");
  // SQLite may have rolled back by itself; then there is nothing left to do here.
  if (!done) (void)database_->execute("ROLLBACK");
  if (done && life_.seals.size() > 1) {
    life_.seals.erase(life_.seals.begin());
    // Not written, it names the seal before too, which the next start takes as well.
    (void)write_life_file(folder_, life_);
  }
  return done;
}

Result<void> Ledger::write_rows(const LedgerBatch& batch) {
  Statements& to = *statements_;
  for (const auto& [number, record] : batch.jobs) {
    const auto key = static_cast<int64_t>(number);
    Result<void> done =
        record ? to.put_job.bind(key).bind(*record).run() : to.drop_job.bind(key).run();
    // Numbers of forgotten jobs are not given again.
    if (done && record) done = to.raise_meta.bind_text("last_job").bind(key).run();
    for (Statement* drop : {&to.drop_store, &to.drop_tasks, &to.drop_grants, &to.drop_results,
                            &to.drop_inputs, &to.drop_set_inputs, &to.drop_input_set,
                            &to.drop_datasets, &to.drop_shards, &to.note_dropped}) {
      if (done && !record) done = drop->bind(key).run();
    }
    if (!done) return done;
  }
  for (const auto& [name, value] : batch.marks) {
    Result<void> done = to.set_meta.bind_text(name).bind(value).run();
    if (!done) return done;
  }
  for (const uint64_t job : batch.swept) {
    Result<void> done = to.forget_dropped.bind(static_cast<int64_t>(job)).run();
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

// Where a page of the tables is damaged the tasks are asked for one by one: those on other pages
// are found.
Result<std::vector<EndedRow>> ResultReader::read(uint64_t job, TaskIndex first, TaskIndex end,
                                                 size_t limit) {
  Result<std::vector<EndedRow>> rows = read_range(job, first, end, limit);
  if (rows || rows.failure().kind != ErrorKind::kCorrupt) return rows;
  std::vector<EndedRow> found;
  for (TaskIndex task = first; task < end && found.size() < limit; ++task) {
    Result<std::vector<EndedRow>> one = read_range(job, task, task + 1, 1);
    if (one) {
      std::move(one->begin(), one->end(), std::back_inserter(found));
    } else if (one.failure().kind == ErrorKind::kCorrupt) {
      found.emplace_back();
      found.back().task.task = task;
      mark_damaged(found.back(), job, one.failure().message);
    } else {
      return one;
    }
  }
  return found;
}

Result<std::vector<EndedRow>> ResultReader::read_range(uint64_t job, TaskIndex first, TaskIndex end,
                                                       size_t limit) {
  Result<Statement> statement = database_.prepare(
      "SELECT tasks.job, tasks.task, state, tasks.attempt, tasks.epoch, worker, incarnation,"
      " failures, last_fault, reason, ran_ms, results.place IS NOT NULL, results.attempt,"
      " results.epoch, bytes, result, file_bytes FROM tasks LEFT JOIN results ON "
      "results.place=tasks.place"
      " WHERE tasks.place>=? AND tasks.place<? ORDER BY tasks.place LIMIT ?");
  if (!statement) return statement.failure();
  statement->bind(place_of(job, first)).bind(place_of(job, end)).bind(static_cast<int64_t>(limit));
  std::vector<EndedRow> rows;
  while (true) {
    const Result<bool> more = statement->next();
    if (!more) return more.failure();
    if (!*more) return rows;
    EndedRow& row = rows.emplace_back(ended_row_of(job, *statement));
    if (!statement->intact() || row.task.state == kUnreadable) {
      mark_damaged(row, job, "its row in the ledger is damaged");
    } else if (row.task.state == TaskState::kDone && !row.result) {
      mark_damaged(row, job, "it is not in the ledger");
    }
  }
}

Result<void> InputReader::open() {
  if (open_) return {};
  Result<Database> database = Database::open(database_path(folder_), Database::Mode::kReadOnly);
  if (!database) return database.failure();
  Result<Statement> find = database->prepare(
      "SELECT first, inputs FROM inputs WHERE job=? AND first<=? ORDER BY first DESC LIMIT 1");
  if (!find) return find.failure();
  // SQLite opens the log beside the database at the first read only.
  const Result<bool> tried = find->bind(int64_t{0}).bind(int64_t{0}).next();
  if (!tried) return tried.failure();
  find->reset();
  open_.emplace(Open{std::move(*database), std::move(*find)});
  return {};
}

Result<InputRow> InputReader::read(uint64_t set, TaskIndex task) {
  if (Result<void> opened = open(); !opened) return opened.failure();
  Statement& find = open_->find;
  const Result<bool> found = find.bind(static_cast<int64_t>(set)).bind(task).next();
  if (!found) return found.failure();
  InputRow row{set, 0, ""};
  if (*found) {
    row.first = static_cast<TaskIndex>(find.integer(0));
    row.inputs = find.bytes(1);
  }
  const bool there = *found && find.intact();
  find.reset();
  if (there) return row;
  return Failure{ErrorKind::kCorrupt, str_cat("the input of task ", task, " cannot be read: set ",
                                              set, *found ? " is damaged" : " has no row for it")};
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

// Whatever is done with the copy, it begins a life of its own.
Result<void> forget_life(const std::string& path) {
  Result<Database> copy = Database::open(path, Database::Mode::kReadWrite);
  if (!copy) return copy.failure();
  return copy->execute("DELETE FROM meta WHERE name IN ('life', 'seal')");
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
  if (copied) copied = forget_life(path);
  if (!copied) return copied;
  return backup_result_files(folder, path);
}

}  // namespace longhaul
