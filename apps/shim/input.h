// The rank's stdin: from the ring that the worker fills (control/worker/gangs/input_ring.h) into
// the pipe that the rank reads, as fast as the rank reads it.
#pragma once

#include <cstdint>

#include "control/worker/process/process_ledger.h"

namespace longhaul {

class Input {
 public:
  // `wanted` false: the rank's stdin is this process's own, /dev/null.
  Input(int folder_fd, ProcessLedger::Input& ledger, bool wanted);
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  // The ring or the pipe could not be opened. Then the rank is not started: it would read an empty
  // stdin and take it for the whole.
  bool broken() const { return broken_; }
  // For the rank; -1: none.
  int read_end() const { return read_end_; }
  // Once the rank has its copy. That nobody reads any more shows only when nobody holds this end,
  // this process included.
  void close_read_end();

  // The end that is written to; -1 once all is over.
  int write_end() const { return write_end_; }
  // What poll() is to wait for there: room, when there is something to write.
  short poll_events() const;
  // Writes what there is and has room. True: the worker has room for more, or is to know that
  // nobody reads.
  bool move();

 private:
  void close_write_end();
  bool waiting() const;

  ProcessLedger::Input& ledger_;
  int ring_ = -1;
  int read_end_ = -1;
  int write_end_ = -1;
  bool broken_ = false;
};

}  // namespace longhaul
