#include "control/database/database.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <thread>
#include <utility>

#include "base/log.h"
#include "control/database/engine/files.h"
#include "control/database/engine/life_file.h"
#include "control/database/engine/migrations.h"
#include "control/database/result_files.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

namespace fs = std::filesystem;

// Batches in one transaction. Bounded, because none of them is told as durable before the last one
// is written.
constexpr size_t kMaxGroup = 512;  // batches in one transaction
// Between two tries of a batch that a full disk refuses.
constexpr milliseconds kRetry{500};
// How often a batch is tried that SQLite takes for damage, before the master ends for it.
constexpr int kLooksAtDamage = 5;

Result<DatabaseContents> read_all(Sqlite& sqlite) {
  DatabaseContents contents;
  TableReader reader(sqlite);
  Result<void> done;
  for_each_table([&]<typename T>() {
    if (done) done = T::read(reader, &contents.of<T>());
  });
  if (!done) return done.failure();
  contents.damaged = std::move(reader.damaged);
  contents.unreadable = std::move(reader.unreadable);
  return contents;
}

// Of this version, and as it is to be written. Errors: those of Database::open().
Result<Sqlite> open_database(const std::string& folder) {
  const std::string path = database_path(folder);
  Result<Sqlite> database = Sqlite::open(path, Sqlite::Mode::kReadWriteCreate);
  if (!database) return database;
  ::chmod(path.c_str(), S_IRUSR | S_IWUSR);
  Result<void> ready = migrate(*database);
  // FULL: a commit is on disk before it returns. With less, a power failure may take the last
  // commits of a WAL away, which were told as durable by then.
  if (ready) ready = database->execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
  if (!ready) return Failure{ready.failure().kind, str_cat(path, ": ", ready.failure().message)};
  return database;
}

// On a disk without one byte of room. Under an exclusive lock SQLite keeps in memory what is else a
// file beside the database (the index of its WAL), so it can read without making a file. Nobody
// else can read the database meanwhile.
Result<Sqlite> open_on_full_disk(const std::string& folder) {
  Result<Sqlite> database = Sqlite::open(database_path(folder), Sqlite::Mode::kReadWrite);
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
  Sqlite sqlite;
  bool full = false;  // it can only be read
};

Result<OpenedDatabase> open_whatever_the_disk(const std::string& folder) {
  Result<Sqlite> database = open_database(folder);
  if (database) return OpenedDatabase{std::move(*database)};
  const ErrorKind kind = database.failure().kind;
  if (kind != ErrorKind::kExhausted && kind != ErrorKind::kUnavailable) return database.failure();
  Result<Sqlite> readable = open_on_full_disk(folder);
  // The first failure says what the user has to mend.
  if (!readable) return database.failure();
  return OpenedDatabase{std::move(*readable), true};
}

// Which life this start belongs to, and how it is told from others from now on.
struct LifeOfStart {
  LifeFile file;  // of this start; the seal of the one before first, where there is one
  std::optional<std::string> new_life;
};

Result<LifeOfStart> life_of_start(const std::string& folder, DatabaseContents& contents) {
  DatabaseLife database;
  database.life = static_cast<uint64_t>(contents.of<MetaTable>()["life"]);
  database.seal = static_cast<uint64_t>(contents.of<MetaTable>()["seal"]);
  Result<void> identified = identify(database_path(folder), &database);
  if (!identified) return identified.failure();
  const Result<std::optional<LifeFile>> beside = read_life_file(folder);
  if (!beside) return beside.failure();
  // The file's second seal is this start's own: the database has it when the first batch is
  // written.
  LifeOfStart start{
      {database.life, {database.seal, random_life()}, database.inode, database.born_ns},
      why_new_life(database, *beside)};
  // A new life has one seal only: the one before must not be taken for right any more.
  if (start.new_life)
    start.file = {random_life(), {random_life()}, database.inode, database.born_ns};
  return start;
}

}  // namespace

void collect(const RowChangedEffect& row, ClusterState& state, DatabaseBatch* batch) {
  for_each_table([&]<typename T>() {
    if constexpr (requires { T::kNoun; }) {
      if (T::kNoun == row.noun) T::collect(state, row.key, &batch->of<T>());
    }
  });
}

Result<std::unique_ptr<Database>> Database::open(const std::string& folder,
                                                 DatabaseContents* contents) {
  Result<UniqueFd> lock = lock_state_folder(folder);
  if (!lock) return lock.failure();
  Result<OpenedDatabase> opened = open_whatever_the_disk(folder);
  if (!opened) return opened.failure();
  Result<DatabaseContents> read = read_all(opened->sqlite);
  if (!read) return read.failure();
  // A database that was put back from a copy knows nothing of later jobs whose files are still
  // here: their numbers must not be given again.
  const Result<uint64_t> highest = highest_job_in_files(folder);
  if (!highest) return highest.failure();
  const Result<LifeOfStart> life = life_of_start(folder, *read);
  if (!life) return life.failure();
  *contents = std::move(*read);
  contents->boot = static_cast<uint64_t>(contents->of<MetaTable>()["boot"]) + 1;
  contents->last_job =
      std::max(static_cast<uint64_t>(contents->of<MetaTable>()["last_job"]), *highest);
  contents->life = life->file.life;
  contents->new_life = life->new_life;

  DatabaseBatch first;  // before anything is granted in this life of the master
  first.of<MetaTable>().marks = {{"boot", static_cast<int64_t>(contents->boot)},
                                 {"last_job", static_cast<int64_t>(contents->last_job)},
                                 {"life", static_cast<int64_t>(life->file.life)},
                                 {"seal", static_cast<int64_t>(life->file.seals.back())}};
  std::unique_ptr<Database> database(new Database(std::move(*lock), folder, life->file));
  // On a full disk the connection that could only read is dropped, and the first batch opens
  // another one when there is room.
  if (!opened->full) database->sqlite_ = std::move(opened->sqlite);
  database->write(std::move(first), [] {});
  return database;
}

Database::Database(UniqueFd lock, std::string folder, LifeFile life)
    : lock_(std::move(lock)),
      folder_(std::move(folder)),
      life_(std::move(life)),
      thread_("lh-database", [this] { run(); }) {}

Database::~Database() {
  entries_.close();
  thread_.join();
}

void Database::write(DatabaseBatch batch, std::function<void()> durable) {
  entries_.push({std::move(batch), std::move(durable)});
}

std::optional<Failure> Database::trouble() const {
  MutexLock lock(mutex_);
  return trouble_;
}

void Database::on_broken(const std::function<void(const Failure&)>& callback) {
  std::optional<Failure> broken;
  {
    MutexLock lock(mutex_);
    on_broken_ = callback;
    if (trouble_ && trouble_->kind != ErrorKind::kExhausted) broken = trouble_;
  }
  if (broken) callback(*broken);
}

void Database::set_trouble(std::optional<Failure> why) {
  MutexLock lock(mutex_);
  if (why && (!trouble_ || why->message != trouble_->message)) {
    log(LogLevel::kError, "master", "the database takes nothing: ", why->message,
        why->kind == ErrorKind::kExhausted
            ? "; running jobs go on, new ones are refused, trying again"
            : "; that will not mend itself");
  }
  if (!why && trouble_) log(LogLevel::kInfo, "master", "the database is written again");
  trouble_ = std::move(why);
}

// False: nothing will ever be written again, or nobody waits any more.
bool Database::write_group(const std::vector<Entry>& group) {
  int looks_left = kLooksAtDamage;
  while (true) {
    const Result<void> done = commit(group);
    if (done) break;
    const ErrorKind kind = done.failure().kind;
    // SQLite may take a read that failed for damage. What is really damaged still is when looked at
    // again.
    if (kind == ErrorKind::kCorrupt && --looks_left > 0) continue;
    const bool for_good = kind == ErrorKind::kCorrupt || kind == ErrorKind::kInternal;
    set_trouble(Failure{for_good ? kind : ErrorKind::kExhausted, done.failure().message});
    if (for_good) {
      MutexLock lock(mutex_);
      if (on_broken_) on_broken_(*trouble_);
      return false;
    }
    // The master ends and does not wait for a full disk. Nothing of this batch was told as durable.
    if (entries_.closed()) return false;
    std::this_thread::sleep_for(kRetry);
  }
  set_trouble(std::nullopt);
  for (const Entry& entry : group) entry.durable();
  return true;
}

void Database::run() {
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
Result<void> Database::get_ready() {
  if (ready_) return {};
  if (!sqlite_) {
    Result<Sqlite> sqlite = open_database(folder_);
    if (!sqlite) return sqlite.failure();
    sqlite_ = std::move(*sqlite);
  }
  // The file names both seals now, the one that the database has and the one that it gets with the
  // first batch. So a crash on either side of that commit leaves a pair that fits.
  Result<void> done = write_life_file(folder_, life_);
  std::apply([&](auto&... table) { ((done = done ? table.prepare(*sqlite_) : done), ...); },
             tables_);
  ready_ = done.ok();
  return done;
}

Result<void> Database::commit(const std::vector<Entry>& entries) {
  if (Result<void> ready = get_ready(); !ready) return ready;
  Result<void> done = sqlite_->execute("BEGIN IMMEDIATE");
  // Whole or not at all, and repeated as a whole: a batch that was rolled back has changed nothing.
  for (const Entry& entry : entries) {
    if (done) done = write_rows(entry.batch);
  }
  if (done) done = sqlite_->execute("COMMIT");
  // SQLite may have rolled back by itself. Then this fails, which is as well.
  if (!done) (void)sqlite_->execute("ROLLBACK");
  if (done && life_.seals.size() > 1) {
    life_.seals.erase(life_.seals.begin());
    // The database has the new seal now, so the old one goes. Where that cannot be written the file
    // names both, and the next start takes the new one from it.
    (void)write_life_file(folder_, life_);
  }
  return done;
}

Result<void> Database::write_rows(const DatabaseBatch& batch) {
  Result<void> done = std::get<JobsTable>(tables_).write(batch.of<JobsTable>());
  for (const auto& [job, record] : batch.of<JobsTable>().jobs) {
    if (record) continue;
    std::apply([&, key = static_cast<int64_t>(job)](
                   auto&... table) { ((done = done ? table.drop_job(key) : done), ...); },
               tables_);
  }
  const auto write = [&]<typename T>(T& table) {
    if constexpr (!std::is_same_v<T, JobsTable>) {
      if (done) done = table.write(batch.of<T>());
    }
  };
  std::apply([&](auto&... table) { (write(table), ...); }, tables_);
  return done;
}

namespace {

// Copies the files that the copy's rows name. The master may go on meanwhile: such a file never
// changes. One that is gone, because its job was forgotten just now, is a failure of the backup.
Result<void> backup_result_files(const std::string& folder, const std::string& path) {
  Result<Sqlite> copy = Sqlite::open(path, Sqlite::Mode::kReadOnly);
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
  Result<Sqlite> copy = Sqlite::open(path, Sqlite::Mode::kReadWrite);
  if (!copy) return copy.failure();
  return copy->execute("DELETE FROM meta WHERE name IN ('life', 'seal')");
}

}  // namespace

Result<void> Database::backup(const std::string& folder, const std::string& path) {
  if (fs::exists(path)) {
    return Failure{ErrorKind::kInvalid, str_cat(path, ": exists already; name a new file")};
  }
  if (!fs::exists(database_path(folder))) {
    return Failure{ErrorKind::kInvalid, str_cat(folder, ": holds no master.db")};
  }
  Result<Sqlite> database = Sqlite::open(database_path(folder), Sqlite::Mode::kReadOnly);
  if (!database) return database.failure();
  // The database first: the files that it names were whole before it named them.
  Result<void> copied = database->copy_to(path);
  if (copied) copied = forget_life(path);
  if (!copied) return copied;
  return backup_result_files(folder, path);
}

}  // namespace longhaul
