// The output of one launch's ranks on its way to the master: spooled as it comes, sent in turn,
// never more than a window ahead of what the master has acknowledged, sent again after a reconnect.
//
// Streams are numbered from 0 by the caller. Thread safety: none.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/worker/spool.h"

namespace longhaul {

class OutputFlow {
 public:
  static constexpr uint64_t kWindowBytes = 4 << 20;
  static constexpr size_t kChunkBytes = 64 << 10;

  // Spool files are made in `folder`, which exists.
  OutputFlow(const std::string& folder, size_t stream_count);

  void append(size_t stream, std::string_view data) { streams_[stream].spool->append(data); }

  struct Chunk {
    size_t stream = 0;
    uint64_t offset = 0;
    std::string data;
  };
  // The next piece to send; nullopt when all is sent or the window is full.
  std::optional<Chunk> next();

  // The master has taken the first `bytes` bytes sent since restart().
  void acknowledge(uint64_t bytes);
  // A new connection: what was not acknowledged is sent again.
  void restart();

  bool all_sent(size_t stream) const;
  bool all_acknowledged() const;

 private:
  struct Stream {
    std::unique_ptr<Spool> spool;
    uint64_t sent = 0;
    uint64_t acknowledged = 0;
  };
  struct InFlight {
    size_t stream;
    uint64_t end;        // offset in its stream
    uint64_t total_end;  // bytes sent since restart()
  };

  std::vector<Stream> streams_;
  std::deque<InFlight> in_flight_;
  size_t turn_ = 0;
  uint64_t total_sent_ = 0;
  uint64_t total_acknowledged_ = 0;
};

}  // namespace longhaul
