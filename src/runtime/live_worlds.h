// The Worlds of this process that are alive, in the order of their init()s. A process has one
// worker, one SIGTERM and one stdout, and may have several Worlds, one after the other or at once.
// Thread safety: all of it from any thread.
#pragma once

#include <cstdint>

namespace longhaul {

// A World holds one as long as it lives.
class LiveWorld {
 public:
  LiveWorld();
  ~LiveWorld();
  LiveWorld(const LiveWorld&) = delete;
  LiveWorld& operator=(const LiveWorld&) = delete;

  // No other one was made after it: it speaks for the process.
  bool is_newest() const;
  bool is_only() const;

  // How many there are; may be asked in a signal handler.
  static int count();

 private:
  uint64_t number_;
};

}  // namespace longhaul
