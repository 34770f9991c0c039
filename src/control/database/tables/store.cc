#include "control/database/tables/store.h"

#include <utility>

#include "control/database/tables/jobs.h"

namespace longhaul {

Result<void> StoreTable::prepare(Sqlite& sqlite) {
  return prepare_all(sqlite, {{&put_, "INSERT OR REPLACE INTO store VALUES(?, ?, ?)"},
                              {&erase_, "DELETE FROM store WHERE job=? AND key=?"},
                              {&drop_, "DELETE FROM store WHERE job=?"}});
}

Result<void> StoreTable::write(const Rows& rows) {
  for (const Row& row : rows.store) {
    const auto job = static_cast<int64_t>(row.job);
    Result<void> done = !row.key    ? drop_.bind(job).run()
                        : row.value ? put_.bind(job).bind(*row.key).bind(*row.value).run()
                                    : erase_.bind(job).bind(*row.key).run();
    if (!done) return done;
  }
  return {};
}

Result<void> StoreTable::read(TableReader& reader, Kept* kept) {
  return reader.of_jobs(
      "a value of its rendezvous store", "SELECT job, key, value FROM store",
      [kept](uint64_t job, const Statement& row) { (*kept)[job][row.bytes(1)] = row.bytes(2); });
}

void StoreTable::collect(ClusterState& state, const std::string& job, Rows* rows) {
  StoreRows changed = state.take_store_rows(job);
  // In this order: the changes came after all that there was before had been dropped.
  if (changed.dropped) rows->store.push_back({job_number(job), std::nullopt, std::nullopt});
  for (StoreChange& change : changed.changes) {
    rows->store.push_back({job_number(job), std::move(change.key), std::move(change.value)});
  }
}

}  // namespace longhaul
