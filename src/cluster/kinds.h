// The kinds of work that a cluster knows. Each is a class beside gangs/ and arrays/ that derives
// from Work; whoever adds one says here how it is told from the others and what it does not take.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cluster/jobs/work.h"

namespace longhaul {

struct WorkKind {
  std::function<bool(const JobSpec&)> is_of;
  // nullopt: it can be run. What holds for every job has been looked at.
  std::function<std::optional<Failure>(const JobSpec&)> why_invalid;
  std::function<std::unique_ptr<Work>(Site&, JobRecord)> make;
};

// The first whose is_of() says so counts; the last one takes whatever is left.
using WorkKinds = std::vector<WorkKind>;

// Arrays and gangs.
WorkKinds standard_kinds();

}  // namespace longhaul
