#include "longhaul/collectives/coordinator_store.h"

#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

std::string text(const std::vector<uint8_t>& bytes) {
  return {bytes.begin(), bytes.end()};
}
std::vector<uint8_t> bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

}  // namespace

CoordinatorStore::CoordinatorStore(std::shared_ptr<Coordinator> coordinator, Generation generation,
                                   milliseconds timeout)
    : Store(timeout),
      coordinator_(std::move(coordinator)),
      generation_(generation),
      prefix_(str_cat("g", generation, "/")) {}

c10::intrusive_ptr<c10d::Store> CoordinatorStore::clone() {
  return c10::make_intrusive<CoordinatorStore>(coordinator_, generation_, timeout_);
}

std::vector<std::string> CoordinatorStore::full(const std::vector<std::string>& keys) const {
  std::vector<std::string> prefixed;
  prefixed.reserve(keys.size());
  for (const std::string& key : keys) prefixed.push_back(full(key));
  return prefixed;
}

void CoordinatorStore::set(const std::string& key, const std::vector<uint8_t>& value) {
  coordinator_->store_set(full(key), text(value)).value_or_throw();
}

std::vector<uint8_t> CoordinatorStore::get(const std::string& key) {
  return bytes(coordinator_->store_get(full(key), timeout_).value_or_throw());
}

int64_t CoordinatorStore::add(const std::string& key, int64_t amount) {
  return coordinator_->store_add(full(key), amount).value_or_throw();
}

bool CoordinatorStore::check(const std::vector<std::string>& keys) {
  return coordinator_->store_check(full(keys)).value_or_throw();
}

bool CoordinatorStore::deleteKey(const std::string& key) {
  return coordinator_->store_delete(full(key)).value_or_throw();
}

std::vector<uint8_t> CoordinatorStore::compareSet(const std::string& key,
                                                  const std::vector<uint8_t>& expected,
                                                  const std::vector<uint8_t>& desired) {
  return bytes(
      coordinator_->store_compare_set(full(key), text(expected), text(desired)).value_or_throw());
}

void CoordinatorStore::wait(const std::vector<std::string>& keys, const milliseconds& timeout) {
  coordinator_->store_wait(full(keys), timeout).value_or_throw();
}

std::vector<std::vector<uint8_t>> CoordinatorStore::multiGet(const std::vector<std::string>& keys) {
  std::vector<std::vector<uint8_t>> values;
  values.reserve(keys.size());
  for (const std::string& key : keys) values.push_back(get(key));
  return values;
}

void CoordinatorStore::multiSet(const std::vector<std::string>& keys,
                                const std::vector<std::vector<uint8_t>>& values) {
  if (keys.size() != values.size()) {
    throw Error(ErrorKind::kInvalid,
                str_cat("multiSet of ", keys.size(), " keys and ", values.size(), " values"));
  }
  for (size_t i = 0; i < keys.size(); ++i) set(keys[i], values[i]);
}

int64_t CoordinatorStore::getNumKeys() {
  throw Error(ErrorKind::kInvalid, "the agent's store does not count its keys");
}

}  // namespace longhaul
