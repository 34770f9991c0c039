// The journal of what happened, by number, up to a cap: the oldest go.
#pragma once

#include <array>
#include <map>
#include <string>
#include <vector>

#include "control/database/engine/table.h"
#include "longhaul/v1/event.pb.h"

namespace longhaul {

class EventsTable : public Table {
 public:
  // `record` is a v1::Event.
  static constexpr std::array kMigrations{
      Migration{2, "CREATE TABLE events(number INTEGER PRIMARY KEY, record BLOB NOT NULL);"}};

  struct Rows {
    std::map<uint64_t, std::string> events;
    uint64_t first_kept = 0;  // those before it go, with whatever is written
    bool empty() const { return events.empty(); }
  };
  using Kept = std::map<uint64_t, std::string>;

  Result<void> prepare(Sqlite& sqlite);
  Result<void> write(const Rows& rows);
  static Result<void> read(TableReader& reader, Kept* kept);

 private:
  Statement put_;
  Statement drop_;
};

// The journal of earlier lives, in order; rows that cannot be read are left out.
std::vector<v1::Event> events_of(const EventsTable::Kept& kept);

}  // namespace longhaul
