#include "cluster/store/rendezvous_store.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

struct Shape {
  StoreOperation operation;
  size_t min_keys;
  size_t max_keys;
  size_t values;
};

// In one call. Looking for them takes the owner thread's time.
constexpr size_t kMaxKeys = 100'000;
constexpr Shape kShapes[] = {
    {StoreOperation::kSet, 1, 1, 1},          {StoreOperation::kGet, 1, 1, 0},
    {StoreOperation::kWait, 0, kMaxKeys, 0},  {StoreOperation::kAdd, 1, 1, 0},
    {StoreOperation::kCheck, 0, kMaxKeys, 0}, {StoreOperation::kDelete, 1, 1, 0},
    {StoreOperation::kCompareSet, 1, 1, 2},
};

bool waits(StoreOperation operation) {
  return operation == StoreOperation::kGet || operation == StoreOperation::kWait;
}

bool writes(StoreOperation operation) {
  return operation == StoreOperation::kSet || operation == StoreOperation::kAdd ||
         operation == StoreOperation::kCompareSet;
}

// Operations for which carrying them out twice differs from once.
bool counts_once(StoreOperation operation) {
  return operation == StoreOperation::kAdd || operation == StoreOperation::kCompareSet ||
         operation == StoreOperation::kDelete;
}

// The rows of a store have two kinds of names. "k" and a key: the key's value. "a", a worker's
// incarnation, a zero byte and the number of a call: the answer to that call, as "amount value".
std::string value_row(const std::string& key) {
  return "k" + key;
}

std::string answer_row(const std::string& worker, uint64_t call_id) {
  return str_cat("a", worker, std::string(1, '\0'), call_id);
}

template <typename Number>
bool is_number(const std::string& text, Number* number) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), *number);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

size_t bytes_of(const std::vector<std::string>& texts) {
  size_t bytes = 0;
  for (const std::string& text : texts) bytes += text.size();
  return bytes;
}

StoreResult failed(ErrorKind kind, std::string message) {
  return {Failure{kind, std::move(message)}, "", 0};
}

// A key as it can be shown: at most 64 bytes, what is not printable as '?'.
std::string shown(const std::string& key) {
  std::string text = key.substr(0, 64);
  for (char& c : text) {
    if (c < ' ' || c > '~') c = '?';
  }
  return text;
}

}  // namespace

// Before anything is done: apply() relies on the number of keys and values.
std::optional<Failure> RendezvousStore::refuse(const StoreCommand& command) const {
  for (const Shape& shape : kShapes) {
    if (shape.operation != command.operation) continue;
    if (command.keys.size() < shape.min_keys || command.keys.size() > shape.max_keys ||
        command.values.size() != shape.values) {
      return Failure{ErrorKind::kInvalid, str_cat("store: ", command.keys.size(), " keys and ",
                                                  command.values.size(), " values do not fit")};
    }
  }
  size_t more = 0;
  if (writes(command.operation)) {
    more = bytes_of(command.keys) + bytes_of(command.values);
    // What is replaced makes room.
    if (const auto found = values_.find(command.keys[0]); found != values_.end()) {
      more -= std::min(more, found->first.size() + found->second.size());
    }
  }
  if (bytes_ + more > kMaxBytes) {
    return Failure{ErrorKind::kInvalid, str_cat("store: full, ", format_bytes(bytes_), " of ",
                                                format_bytes(kMaxBytes), " are used")};
  }
  return std::nullopt;
}

std::vector<StoreReply> RendezvousStore::call(const StoreCaller& caller,
                                              const StoreCommand& command, Instant now) {
  // A call that was carried out, but whose answer was lost, gets the same answer again, also when
  // the store has filled up since. The answer is durable together with what the call changed, so
  // that holds across a restart of the master, too.
  if (const auto before = answered_before(caller)) return {{caller, *before}};
  if (const auto refused = refuse(command)) return {{caller, {refused, "", 0}}};
  if (waits(command.operation) && !has_all(command.keys)) {
    // Only those who would wait are refused. What is there can still be read, and ranks that are
    // ending may still write.
    if (failing_) return {{caller, failed(ErrorKind::kPeerLost, *failing_)}};
    if (waits_.size() >= kMaxWaits || wait_bytes_ + bytes_of(command.keys) > kMaxBytes) {
      return {{caller, failed(ErrorKind::kInvalid, "store: too many calls wait")}};
    }
    add_wait({caller, command, now, now + command.timeout});
    return {};
  }
  std::vector<StoreReply> replies{{caller, apply(command)}};
  if (counts_once(command.operation)) keep_answer(caller, replies.front().result);
  if (writes(command.operation)) answer_waiting_for(command.keys[0], replies);
  return replies;
}

StoreResult RendezvousStore::apply(const StoreCommand& command) {
  switch (command.operation) {
    case StoreOperation::kSet:
      put(command.keys[0], command.values[0]);
      return {};
    case StoreOperation::kGet:
      return {std::nullopt, values_.at(command.keys[0]), 0};
    case StoreOperation::kWait:
      return {};
    case StoreOperation::kAdd:
      return add(command.keys[0], command.amount);
    case StoreOperation::kCheck:
      return {std::nullopt, "", has_all(command.keys) ? 1 : 0};
    case StoreOperation::kDelete: {
      const auto found = values_.find(command.keys[0]);
      if (found == values_.end()) return {};
      bytes_ -= found->first.size() + found->second.size();
      changes_.push_back({value_row(found->first), std::nullopt});
      values_.erase(found);
      return {std::nullopt, "", 1};
    }
    case StoreOperation::kCompareSet:
      return compare_set(command);
  }
  return failed(ErrorKind::kInvalid, "store: unknown operation");
}

// As TCPStore: the value is decimal text, so that a counter can be read with get().
StoreResult RendezvousStore::add(const std::string& key, int64_t amount) {
  int64_t before = 0;
  if (const auto found = values_.find(key); found != values_.end()) {
    const std::string& text = found->second;
    if (!is_number(text, &before)) {
      return failed(ErrorKind::kInvalid, str_cat("store: '", shown(key), "' holds no number"));
    }
  }
  int64_t after = 0;
  if (__builtin_add_overflow(before, amount, &after)) {
    return failed(ErrorKind::kInvalid, str_cat("store: '", shown(key), "' would overflow"));
  }
  put(key, std::to_string(after));
  return {std::nullopt, "", after};
}

// As c10d's HashStore::compareSet: a missing key that was expected to hold something answers with
// what was expected.
StoreResult RendezvousStore::compare_set(const StoreCommand& command) {
  const std::string& expected = command.values[0];
  const auto found = values_.find(command.keys[0]);
  if (found == values_.end() && !expected.empty()) return {std::nullopt, expected, 0};
  if (found != values_.end() && found->second != expected) return {std::nullopt, found->second, 0};
  put(command.keys[0], command.values[1]);
  return {std::nullopt, command.values[1], 0};
}

bool RendezvousStore::has_all(const std::vector<std::string>& keys) const {
  return std::all_of(keys.begin(), keys.end(),
                     [&](const std::string& key) { return values_.contains(key); });
}

void RendezvousStore::put(const std::string& key, std::string value) {
  const auto found = values_.find(key);
  if (found != values_.end()) bytes_ -= found->first.size() + found->second.size();
  bytes_ += key.size() + value.size();
  changes_.push_back({value_row(key), value});
  values_[key] = std::move(value);
}

std::optional<StoreResult> RendezvousStore::answered_before(const StoreCaller& caller) const {
  const auto worker = answered_.find(caller.worker);
  if (worker == answered_.end()) return std::nullopt;
  const auto answer = worker->second.by_call.find(caller.call_id);
  if (answer == worker->second.by_call.end()) return std::nullopt;
  return answer->second;
}

void RendezvousStore::keep_answer(const StoreCaller& caller, const StoreResult& result) {
  // A call that failed has changed nothing and may be carried out when it comes again.
  if (caller.worker.empty() || result.failure) return;
  Answers& answers = answered_[caller.worker];
  answers.by_call[caller.call_id] = result;
  answers.bytes += result.value.size();
  changes_.push_back(
      {answer_row(caller.worker, caller.call_id), str_cat(result.amount, " ", result.value)});
  // The numbers of a worker's calls only grow, so the lowest is the oldest.
  while (answers.by_call.size() > kKeptAnswers ||
         (answers.bytes > kKeptAnswerBytes && answers.by_call.size() > 1)) {
    const auto oldest = answers.by_call.begin();
    changes_.push_back({answer_row(caller.worker, oldest->first), std::nullopt});
    answers.bytes -= oldest->second.value.size();
    answers.by_call.erase(oldest);
  }
}

Result<void> RendezvousStore::restore(const std::map<std::string, std::string>& rows) {
  for (const auto& [row, content] : rows) {
    if (row.starts_with("k")) {
      values_[row.substr(1)] = content;
      bytes_ += row.size() - 1 + content.size();
      continue;
    }
    const size_t zero = row.find('\0');
    const size_t space = content.find(' ');
    StoreResult result;
    uint64_t call = 0;
    const bool fits = row.starts_with("a") && zero != std::string::npos &&
                      space != std::string::npos && is_number(row.substr(zero + 1), &call) &&
                      is_number(content.substr(0, space), &result.amount);
    if (!fits) return Failure{ErrorKind::kCorrupt, "a row of its store cannot be read"};
    result.value = content.substr(space + 1);
    Answers& answers = answered_[row.substr(1, zero - 1)];
    answers.bytes += result.value.size();
    answers.by_call[call] = std::move(result);
  }
  return {};
}

const std::string* RendezvousStore::missing_key(Wait* wait) const {
  const std::vector<std::string>& keys = wait->command.keys;
  for (; wait->seen < keys.size(); ++wait->seen) {
    if (!values_.contains(keys[wait->seen])) return &keys[wait->seen];
  }
  // `seen` lets a wait for many keys look at each about once instead of again with each that comes.
  // But one that was there may have been deleted since, so at the end all are looked for.
  const auto missing = std::find_if(keys.begin(), keys.end(),
                                    [&](const std::string& key) { return !values_.contains(key); });
  return missing == keys.end() ? nullptr : &*missing;
}

void RendezvousStore::add_wait(Wait wait) {
  const WaitId id = ++last_wait_;
  // call() has found that one is missing.
  wait.missing = *missing_key(&wait);
  by_missing_key_[wait.missing].insert(id);
  by_deadline_.insert({wait.deadline, id});
  by_rank_.insert({wait.caller.rank, id});
  wait_bytes_ += bytes_of(wait.command.keys);
  waits_.emplace(id, std::move(wait));
}

RendezvousStore::Wait RendezvousStore::take_wait(WaitId id) {
  const auto found = waits_.find(id);
  Wait wait = std::move(found->second);
  waits_.erase(found);
  by_deadline_.erase({wait.deadline, id});
  by_rank_.erase({wait.caller.rank, id});
  wait_bytes_ -= bytes_of(wait.command.keys);
  // answer_waiting_for() has taken the whole list of this key out before it takes the waits.
  if (const auto key = by_missing_key_.find(wait.missing); key != by_missing_key_.end()) {
    key->second.erase(id);
    if (key->second.empty()) by_missing_key_.erase(key);
  }
  return wait;
}

void RendezvousStore::answer_waiting_for(const std::string& key, std::vector<StoreReply>& replies) {
  if (!values_.contains(key)) return;
  const auto found = by_missing_key_.find(key);
  if (found == by_missing_key_.end()) return;
  // Taken out as a whole, because waits that go on are filed under other keys of this map
  // meanwhile.
  const std::set<WaitId> ids = std::move(found->second);
  by_missing_key_.erase(found);
  for (const WaitId id : ids) {
    Wait& wait = waits_.at(id);
    if (const std::string* missing = missing_key(&wait)) {
      wait.missing = *missing;
      by_missing_key_[wait.missing].insert(id);
      continue;
    }
    const Wait answered = take_wait(id);
    replies.push_back({answered.caller, apply(answered.command)});
  }
}

std::vector<StoreReply> RendezvousStore::expire(Instant now) {
  std::vector<StoreReply> replies;
  while (!by_deadline_.empty() && by_deadline_.begin()->first <= now) {
    const Wait wait = take_wait(by_deadline_.begin()->second);
    replies.push_back(
        {wait.caller,
         failed(ErrorKind::kDeadline, str_cat("store: nobody set '", shown(wait.missing),
                                              "' within ", wait.command.timeout.count(), " ms"))});
  }
  return replies;
}

std::vector<StoreReply> RendezvousStore::fail(const std::string& reason) {
  // For good: the next attempt has another store (Gang::drop_store()).
  failing_ = reason;
  std::vector<StoreReply> replies;
  replies.reserve(waits_.size());
  while (!waits_.empty()) {
    replies.push_back(
        {take_wait(waits_.begin()->first).caller, failed(ErrorKind::kPeerLost, reason)});
  }
  return replies;
}

void RendezvousStore::drop_session(uint64_t session) {
  std::vector<WaitId> gone;
  for (const auto& [id, wait] : waits_) {
    if (wait.caller.session == session) gone.push_back(id);
  }
  for (const WaitId id : gone) (void)take_wait(id);
}

std::optional<Instant> RendezvousStore::next_deadline() const {
  return by_deadline_.empty() ? std::nullopt : std::optional(by_deadline_.begin()->first);
}

std::optional<Instant> RendezvousStore::waits_since(Rank rank) const {
  // The numbers of waits grow, so the first one of this rank is the oldest.
  const auto first = by_rank_.lower_bound({rank, 0});
  if (first == by_rank_.end() || first->first != rank) return std::nullopt;
  return waits_.at(first->second).since;
}

}  // namespace longhaul
