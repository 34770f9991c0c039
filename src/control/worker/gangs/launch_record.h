// What is kept on disk of one launch, so that a worker that comes after a killed one can go on with
// it. A launch's folder holds
//
//   launch       the master's request (v1::Launch)
//   events       what the ranks said that the master must not miss (v1::RankEvent, delimited)
//   rank-0 ...   one folder a rank, by local rank (process_folder.h)
//
// Thread safety: none.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/cluster_messages.h"
#include "longhaul/base/result.h"
#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

class LaunchRecord {
 public:
  // That of `id`, whether it is there or not.
  LaunchRecord(const std::string& spool_folder, const LaunchId& id);
  // All whose folders lie in `spool_folder`, whatever their state.
  static std::vector<LaunchRecord> find(const std::string& spool_folder);

  const std::string& folder() const { return folder_; }
  std::string process_folder(int local_rank) const;

  // Makes the folder. Nothing of the launch is started before this has succeeded. Errors:
  // kUnavailable.
  Result<void> create(const v1::Launch& request) const;
  // nullopt: no launch was begun here, or its request is damaged, or it belongs elsewhere. Errors:
  // kExhausted (it cannot be read now).
  Result<std::optional<v1::Launch>> read() const;

  // For events that happen once or seldom in a rank's life: each is a write to the disk.
  void add_event(const v1::RankEvent& event) const;
  std::vector<v1::RankEvent> events() const;

  void remove() const;

 private:
  explicit LaunchRecord(std::string folder) : folder_(std::move(folder)) {}

  std::string folder_;
};

}  // namespace longhaul
