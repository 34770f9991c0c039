// The output of one launch's ranks on its way to the master: read from the spools, sent in turn,
// never more than a window ahead of what the master has acknowledged, sent again after a reconnect.
//
// Thread safety: none.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "control/worker/output/spool_reader.h"

namespace longhaul {

class OutputFlow {
 public:
  static constexpr uint64_t kWindowBytes = 4 << 20;
  static constexpr size_t kChunkBytes = 64 << 10;

  // Streams are numbered from 0 in the order they come.
  void add(SpoolReader spool);
  // Of a stream that had nothing so far.
  void replace(size_t stream, SpoolReader spool);

  struct Chunk {
    size_t stream = 0;
    uint64_t offset = 0;
    std::string data;
    // Not 0: this many bytes from `offset` on are gone (the spool's cap, or a full disk), and
    // `data` is a line that says so.
    uint64_t lost = 0;
  };
  // The next piece to send; nullopt when all is sent, the window is full, or in trouble().
  std::optional<Chunk> next();
  // Why next() has passed over a stream: it is to be asked again some time later. "": it has not.
  const std::string& trouble() const { return trouble_; }

  // The master has taken the first `bytes` bytes sent since restart().
  void acknowledge(uint64_t bytes);
  // A new connection: what was not acknowledged is sent again.
  void restart();

  bool all_sent(size_t stream) const;
  bool all_acknowledged() const;
  // The end of what the stream's rank has written.
  std::string tail(size_t stream) { return streams_[stream].spool.tail(); }

 private:
  struct Stream {
    SpoolReader spool;
    uint64_t sent = 0;
  };
  struct InFlight {
    size_t stream;
    uint64_t end;        // offset in its stream
    uint64_t total_end;  // bytes sent since restart()
  };

  std::vector<Stream> streams_;
  std::deque<InFlight> in_flight_;
  std::string trouble_;
  // Where next() begins to look: each stream has its turn, so that one which prints without end
  // does not hold back the others.
  size_t turn_ = 0;
  uint64_t total_sent_ = 0;
  uint64_t total_acknowledged_ = 0;
};

}  // namespace longhaul
