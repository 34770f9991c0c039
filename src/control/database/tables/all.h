// The tables of a master's database, in the order in which they are written: jobs first, because a
// job that is forgotten takes its rows in the others along.
#pragma once

#include <tuple>
#include <type_traits>

#include "control/database/tables/datasets.h"
#include "control/database/tables/dropped.h"
#include "control/database/tables/events.h"
#include "control/database/tables/inputs.h"
#include "control/database/tables/jobs.h"
#include "control/database/tables/meta.h"
#include "control/database/tables/results.h"
#include "control/database/tables/store.h"
#include "control/database/tables/tasks.h"
#include "control/database/tables/workers.h"

namespace longhaul {

using Tables = std::tuple<JobsTable, MetaTable, DroppedTable, WorkersTable, StoreTable, InputsTable,
                          TasksTable, ResultsTable, EventsTable, DatasetsTable>;

// Calls `call.operator()<T>()` for each of them.
template <typename Call>
void for_each_table(Call call) {
  [&]<typename... T>(std::type_identity<std::tuple<T...>>) {
    (call.template operator()<T>(), ...);
  }(std::type_identity<Tables>());
}

}  // namespace longhaul
