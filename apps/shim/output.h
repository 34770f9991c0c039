// One stream of the rank's output, from the pipe or the pseudo terminal that the rank writes to, to
// the disk.
#pragma once

#include <cstdint>
#include <string>

#include "control/worker/output/spool_writer.h"
#include "control/worker/process/process_ledger.h"

namespace longhaul {

class Output {
 public:
  // Writes its spool into the folder `folder_fd`. `terminal`: the rank writes to a pseudo terminal
  // instead of a pipe, because many programs write line by line only to a terminal. Both are
  // one-way, and bytes come out as they went in.
  Output(int folder_fd, const char* name, ProcessLedger::Stream& stream, uint64_t max_bytes,
         bool terminal);
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  // -1 once nobody holds the other end any more.
  int read_end() const { return read_end_; }
  int write_end() const { return write_end_; }
  // Once the rank has its copy. The end of the stream shows only when nobody holds this end, this
  // process included.
  void close_write_end();

  // False when nothing is there now.
  bool read_once();
  // All that is there now. Precondition: the rank's tree has ended.
  void drain();
  // A line of our own behind what the rank has printed.
  void add_remark(const std::string& line);

 private:
  void open_pipe();
  bool open_terminal();

  SpoolWriter spool_;
  int read_end_ = -1;
  int write_end_ = -1;
  char last_byte_ = '\n';
};

}  // namespace longhaul
