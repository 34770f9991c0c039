// Removes folders in which ranks have worked: a rank may leave a million files there, and whoever
// removes them must not keep heartbeats waiting.
//
// Thread safety: none; the removing is done on a thread of its own.
#pragma once

#include <string>

#include "base/queue.h"
#include "base/thread.h"

namespace longhaul {

class FolderRemover {
 public:
  // `trash`: a folder of its own, on the file system of what is to be removed. What a killed
  // process has left in it is removed, too.
  explicit FolderRemover(std::string trash);
  // Returns when all is removed, the trash among it.
  ~FolderRemover();
  FolderRemover(const FolderRemover&) = delete;
  FolderRemover& operator=(const FolderRemover&) = delete;

  // The folder's name is free when this returns. Does nothing where there is no such folder.
  void remove(const std::string& folder);

 private:
  const std::string trash_;
  const std::string prefix_;  // of what this one puts there
  uint64_t count_ = 0;
  Queue<std::string> folders_;
  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul
