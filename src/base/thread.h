// A thread with a name (seen in gdb, top and /proc) that is joined when its object goes. Longhaul
// detaches a thread in two places only, each with its reason: where nobody is left to wait for it
// (operation_watch.cc), and where a dying process may leave it behind (last_words.cc).
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace longhaul {

class Thread {
 public:
  Thread() = default;
  // `name` is cut to 15 bytes, Linux's limit.
  Thread(const std::string& name, std::function<void()> body);
  ~Thread();
  Thread(Thread&&) = default;
  // Joins the thread held so far.
  Thread& operator=(Thread&& other) noexcept;

  void join();
  bool joinable() const { return thread_.joinable(); }

 private:
  std::thread thread_;
};

}  // namespace longhaul
