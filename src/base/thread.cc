#include "base/thread.h"

#include <pthread.h>

#include <utility>

namespace longhaul {

Thread::Thread(const std::string& name, std::function<void()> body)
    : thread_([name, body = std::move(body)] {
        pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
        body();
      }) {}

Thread::~Thread() {
  join();
}

Thread& Thread::operator=(Thread&& other) noexcept {
  join();
  thread_ = std::move(other.thread_);
  return *this;
}

void Thread::join() {
  if (thread_.joinable()) thread_.join();
}

}  // namespace longhaul
