#include "runtime/live_worlds.h"

#include <atomic>
#include <set>

#include "longhaul/base/mutex.h"

namespace longhaul {
namespace {

// Of the process, and never destroyed: a World may be a static object of the program's.
struct Registry {
  Mutex mutex;
  uint64_t last LONGHAUL_GUARDED_BY(mutex) = 0;
  std::set<uint64_t> alive LONGHAUL_GUARDED_BY(mutex);
};

Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

std::atomic<int> alive_count = 0;
static_assert(std::atomic<int>::is_always_lock_free);

}  // namespace

LiveWorld::LiveWorld() {
  const MutexLock lock(registry().mutex);
  number_ = ++registry().last;
  registry().alive.insert(number_);
  ++alive_count;
}

LiveWorld::~LiveWorld() {
  const MutexLock lock(registry().mutex);
  registry().alive.erase(number_);
  --alive_count;
}

bool LiveWorld::is_newest() const {
  const MutexLock lock(registry().mutex);
  return *registry().alive.rbegin() == number_;
}

bool LiveWorld::is_only() const {
  const MutexLock lock(registry().mutex);
  return registry().alive.size() == 1;
}

int LiveWorld::count() {
  return alive_count.load();
}

}  // namespace longhaul
