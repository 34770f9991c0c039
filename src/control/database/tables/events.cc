#include "control/database/tables/events.h"

#include <utility>

namespace longhaul {

Result<void> EventsTable::prepare(Sqlite& sqlite) {
  return prepare_all(sqlite, {{&put_, "INSERT OR REPLACE INTO events VALUES(?, ?)"},
                              {&drop_, "DELETE FROM events WHERE number<?"}});
}

Result<void> EventsTable::write(const Rows& rows) {
  for (const auto& [number, record] : rows.events) {
    Result<void> done = put_.bind(static_cast<int64_t>(number)).bind(record).run();
    if (!done) return done;
  }
  if (rows.events.empty()) return {};
  return drop_.bind(static_cast<int64_t>(rows.first_kept)).run();
}

Result<void> EventsTable::read(TableReader& reader, Kept* kept) {
  return reader.of_nobody("the journal", "SELECT number, record FROM events",
                          [kept](const Statement& row) {
                            (*kept)[static_cast<uint64_t>(row.integer(0))] = row.bytes(1);
                          });
}

std::vector<v1::Event> events_of(const EventsTable::Kept& kept) {
  std::vector<v1::Event> events;
  for (const auto& [number, bytes] : kept) {
    v1::Event event;
    if (event.ParseFromString(bytes) && event.number() == number) {
      events.push_back(std::move(event));
    }
  }
  return events;
}

}  // namespace longhaul
