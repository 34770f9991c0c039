// What a killed worker has left in its state folder: launches whose ranks may still run.
#pragma once

#include <string>
#include <vector>

#include "control/worker/gangs/launch_record.h"
#include "longhaul/base/result.h"
#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

struct LeftBehind {
  std::vector<v1::Launch> adoptable;   // for Launch::adopt()
  std::vector<LaunchRecord> unusable;  // half made, damaged, or of another version
};

// Errors: kExhausted (it cannot be told now; nothing is to be done to any of them).
Result<LeftBehind> find_left_behind(const std::string& spool_folder);

// Kills every rank of these launches that still runs, with everything that it started, waits until
// they are gone, and removes the folders. Each process is known by more than its pid. Returns how
// many ranks still ran. Takes some seconds at most.
Result<int> clean_up(const std::vector<LaunchRecord>& launches);

}  // namespace longhaul
