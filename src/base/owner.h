// The thread that some state belongs to. What a header says in words ("the owner thread's"), a
// method says with assert_owner(), and a call from elsewhere is a bug that ends the program where
// it happens, not a value that is wrong later.
//
//   void run() { const Owner::Term term(owner_); ... }   // this thread's, from here to the end
//   void add(...) { owner_.assert_owner(); ... }
//
// Outside of a term nobody owns it: whoever makes the state, and whoever takes it apart once the
// thread has been joined, needs no leave.
//
// Thread safety: any thread.
#pragma once

#include <atomic>
#include <thread>

#include "base/check.h"

namespace longhaul {

class Owner {
 public:
  class Term {
   public:
    explicit Term(Owner& owner) : owner_(owner) {
      const std::thread::id before = owner_.thread_.exchange(std::this_thread::get_id());
      if (before == std::thread::id()) return;
      owner_.thread_ = before;
      throw BugError("a thread takes what another one owns");
    }
    ~Term() { owner_.thread_ = std::thread::id(); }
    Term(const Term&) = delete;
    Term& operator=(const Term&) = delete;

   private:
    Owner& owner_;
  };

  // Throws BugError on a thread that is not the owner, while there is one.
  void assert_owner() const {
    // Relaxed: a thread reads its own id here or it does not, and what else it sees is no matter.
    const std::thread::id owner = thread_.load(std::memory_order_relaxed);
    if (owner == std::thread::id() || owner == std::this_thread::get_id()) return;
    throw BugError("a thread touches what another one owns");
  }

 private:
  std::atomic<std::thread::id> thread_{};
};

}  // namespace longhaul
