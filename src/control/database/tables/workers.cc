#include "control/database/tables/workers.h"

#include "control/convert/worker_proto.h"
#include "control/database/clock_mark.h"
#include "longhaul/v1/record.pb.h"

namespace longhaul {

Result<void> WorkersTable::prepare(Sqlite& sqlite) {
  return prepare_all(sqlite, {{&put_, "INSERT OR REPLACE INTO workers VALUES(?, ?)"},
                              {&drop_, "DELETE FROM workers WHERE id=?"}});
}

Result<void> WorkersTable::write(const Rows& rows) {
  for (const auto& [id, record] : rows.workers) {
    Result<void> done = record ? put_.bind_text(id).bind(*record).run() : drop_.bind_text(id).run();
    if (!done) return done;
  }
  return {};
}

Result<void> WorkersTable::read(TableReader& reader, Kept* kept) {
  return reader.of_nobody("workers", "SELECT id, record FROM workers",
                          [kept](const Statement& row) { (*kept)[row.bytes(0)] = row.bytes(1); });
}

void WorkersTable::collect(ClusterState& state, const std::string& worker, Rows* rows) {
  const WorkerRecord* record = state.worker(worker);
  std::optional<std::string>& row = rows->workers[worker];
  if (record != nullptr) row = to_bytes(*record);
}

std::string to_bytes(const WorkerRecord& worker) {
  v1::WorkerRecord proto;
  proto.set_worker_id(worker.id);
  *proto.mutable_registration() = to_proto(worker.registration);
  // What it runs it says again when it registers.
  proto.mutable_registration()->clear_inventory();
  proto.set_lost(worker.state == WorkerState::kLost);
  proto.set_why_lost(worker.why_lost);
  proto.set_unix_ms_last_heard(worker.unix_ms_last_heard);
  proto.set_drained(worker.drained);
  if (worker.state == WorkerState::kLost) {
    proto.set_lost_ms(static_cast<uint64_t>(to_ms(worker.lost_at)));
  }
  return proto.SerializeAsString();
}

Result<WorkerRecord> worker_record_from(const std::string& bytes, milliseconds shift) {
  v1::WorkerRecord proto;
  if (!proto.ParseFromString(bytes)) {
    return Failure{ErrorKind::kCorrupt, "its bytes are damaged"};
  }
  WorkerRecord worker;
  worker.id = proto.worker_id();
  worker.registration = from_proto(proto.registration());
  // Whether it is still there nobody knows: it has the grace of a restarted master to come back.
  worker.state = proto.lost() ? WorkerState::kLost : WorkerState::kUnreachable;
  worker.why_lost = proto.why_lost();
  worker.unix_ms_last_heard = proto.unix_ms_last_heard();
  worker.drained = proto.drained();
  if (proto.lost_ms() != 0) worker.lost_at = from_ms(static_cast<int64_t>(proto.lost_ms())) + shift;
  return worker;
}

}  // namespace longhaul
