#include "runtime/coordinator_store.h"

#include <utility>

namespace longhaul {
namespace {

std::string to_text(const std::vector<uint8_t>& bytes) {
  return {bytes.begin(), bytes.end()};
}
std::vector<uint8_t> to_bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

}  // namespace

CoordinatorStore::CoordinatorStore(std::shared_ptr<Coordinator> coordinator, milliseconds timeout)
    : Store(timeout), coordinator_(std::move(coordinator)) {}

c10::intrusive_ptr<c10d::Store> CoordinatorStore::clone() {
  return c10::make_intrusive<CoordinatorStore>(coordinator_, getTimeout());
}

void CoordinatorStore::set(const std::string& key, const std::vector<uint8_t>& value) {
  coordinator_->store_set(key, to_text(value)).value_or_throw();
}

std::vector<uint8_t> CoordinatorStore::compareSet(const std::string& key,
                                                  const std::vector<uint8_t>& expected,
                                                  const std::vector<uint8_t>& desired) {
  return to_bytes(
      coordinator_->store_compare_set(key, to_text(expected), to_text(desired)).value_or_throw());
}

std::vector<uint8_t> CoordinatorStore::get(const std::string& key) {
  return to_bytes(coordinator_->store_get(key, getTimeout()).value_or_throw());
}

int64_t CoordinatorStore::add(const std::string& key, int64_t amount) {
  return coordinator_->store_add(key, amount).value_or_throw();
}

bool CoordinatorStore::deleteKey(const std::string& key) {
  return coordinator_->store_delete(key).value_or_throw();
}

bool CoordinatorStore::check(const std::vector<std::string>& keys) {
  return coordinator_->store_check(keys).value_or_throw();
}

int64_t CoordinatorStore::getNumKeys() {
  throw Error(ErrorKind::kInvalid, "the worker's rendezvous store does not count its keys");
}

void CoordinatorStore::wait(const std::vector<std::string>& keys) {
  wait(keys, getTimeout());
}

void CoordinatorStore::wait(const std::vector<std::string>& keys, const milliseconds& timeout) {
  coordinator_->store_wait(keys, timeout).value_or_throw();
}

}  // namespace longhaul
