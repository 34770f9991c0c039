#include "longhaul/collectives/communicator.h"

#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/random_id.h"
#include "collectives/meeting.h"
#include "collectives/operation_watch.h"
#include "collectives/process_groups.h"
#include "collectives/watched_communicator.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

using StorePtr = c10::intrusive_ptr<c10d::Store>;
using GroupPtr = c10::intrusive_ptr<c10d::ProcessGroup>;
using Token = std::array<uint8_t, 16>;

void check_options(const StorePtr& store, const CommunicatorOptions& options) {
  const auto refuse = [](const std::string& why) { throw Error(ErrorKind::kInvalid, why); };
  if (options.size < 1) refuse(str_cat("world size is ", options.size, "; it must be at least 1"));
  if (options.rank < 0 || options.rank >= options.size) {
    refuse(str_cat("rank ", options.rank, " is not in a world of ", options.size));
  }
  if (options.timeout.count() <= 0) refuse("the time-out of collectives must be above 0 ms");
  if (!store && options.size > 1) refuse("a world of several ranks needs a store to meet in");
}

std::vector<std::string> keys_of_all(const char* prefix, int size) {
  std::vector<std::string> keys;
  keys.reserve(static_cast<size_t>(size));
  for (Rank rank = 0; rank < size; ++rank) keys.push_back(str_cat(prefix, rank));
  return keys;
}

// Which ranks have not set their key.
std::vector<Rank> missing_ranks(const StorePtr& store, const std::vector<std::string>& keys) {
  std::vector<Rank> missing;
  for (size_t rank = 0; rank < keys.size(); ++rank) {
    if (!store->check({keys[rank]})) missing.push_back(static_cast<Rank>(rank));
  }
  return missing;
}

CollectiveError did_not_come(const CommunicatorOptions& options, milliseconds patience,
                             const std::vector<Rank>& missing) {
  std::vector<std::string> names;
  names.reserve(missing.size());
  for (const Rank rank : missing) names.push_back(std::to_string(rank));
  return {ErrorKind::kDeadline,
          str_cat("rank ", options.rank, " waited ",
                  format_seconds(static_cast<double>(patience.count()) / 1000), " for a world of ",
                  options.size, ", and ", missing.size() > 1 ? "ranks " : "rank ",
                  join(names, ", "), " did not come"),
          missing[0]};
}

std::string lost_store(const CommunicatorOptions& options, const std::string& reason) {
  return str_cat("rank ", options.rank, " lost the rendezvous store: ", reason);
}

// One meeting of all ranks. A store may see several, one after the other: of this process, or of
// programs that one rank runs in turn. A rank's first meeting belongs to the others' first, its
// second to their second. So each rank counts its own meetings in the store (where the count
// outlives the program), and the number is part of all keys: none finds what another has left
// behind.
class Meeting {
 public:
  Meeting(const StorePtr& store, const CommunicatorOptions& options, milliseconds patience)
      : options_(options),
        patience_(patience),
        root_(c10::make_intrusive<c10d::PrefixStore>(str_cat("longhaul/", options.generation),
                                                     store)) {}

  // Says that this rank is here and waits for all others; the store of this meeting alone.
  StorePtr meet() {
    std::string reason;
    try {
      come();
      return keys_;
    } catch (const Error& error) {
      // CoordinatorStore says what it knows: the job is failing, and why. Only of a deadline is
      // more to be found out, below.
      if (error.kind() != ErrorKind::kDeadline) {
        throw CollectiveError(error.kind(), error.what(), -1);
      }
    } catch (const std::exception& error) {
      reason = error.what();
    }
    std::vector<Rank> missing;
    try {
      if (keys_) missing = who_is_to_blame();
      if (keys_) withdraw();
    } catch (const std::exception& error) {
      reason = error.what();
      missing.clear();
    }
    if (!missing.empty()) throw did_not_come(options_, patience_, missing);
    throw CollectiveError(ErrorKind::kUnavailable, lost_store(options_, reason), -1);
  }

 private:
  void come() {
    const int64_t number = root_->add(counter_, 1);
    keys_ = c10::make_intrusive<c10d::PrefixStore>(std::to_string(number), root_);
    keys_->set(names_[static_cast<size_t>(options_.rank)], std::string("1"));
    keys_->wait(names_, patience_);
  }
  // Ranks that have just given up look missing too, because they have taken their key back. They
  // left another key that says so; those that never came are named in preference to them.
  std::vector<Rank> who_is_to_blame() {
    const std::vector<Rank> missing = missing_ranks(keys_, names_);
    std::vector<Rank> never_came;
    for (const Rank rank : missing) {
      if (!keys_->check({tried_[static_cast<size_t>(rank)]})) never_came.push_back(rank);
    }
    return never_came.empty() ? missing : never_came;
  }
  // Nothing has come of this meeting: when this rank tries again, it wants the same one. It says
  // that it has tried before it takes its key back, so that nobody ever sees neither of the two.
  void withdraw() {
    keys_->set(tried_[static_cast<size_t>(options_.rank)], std::string("1"));
    keys_->deleteKey(names_[static_cast<size_t>(options_.rank)]);
    root_->add(counter_, -1);
  }

  const CommunicatorOptions options_;
  const milliseconds patience_;
  const StorePtr root_;
  const std::string counter_ = str_cat("meetings/", options_.rank);
  const std::vector<std::string> names_ = keys_of_all("joined/", options_.size);
  const std::vector<std::string> tried_ = keys_of_all("tried/", options_.size);
  StorePtr keys_;
};

// The monitors' secret, told through the store. Whoever can read the store is trusted; a process
// that merely finds a monitor's port does not know it.
Token share_token(const StorePtr& store, const CommunicatorOptions& options) {
  Token token;
  if (options.rank == 0) {
    fill_random(token.data(), token.size());
    store->set("monitor-token", std::vector<uint8_t>(token.begin(), token.end()));
    return token;
  }
  const std::vector<uint8_t> bytes = store->get("monitor-token");
  if (bytes.size() != token.size()) {
    throw Error(ErrorKind::kCorrupt,
                str_cat("the store's monitor token has ", bytes.size(), " bytes"));
  }
  std::copy(bytes.begin(), bytes.end(), token.begin());
  return token;
}

// "port address backend" of every rank. Waits for each in turn; all ranks have met, so all keys
// come soon.
std::vector<PeerMonitor::Endpoint> share_endpoints(const StorePtr& store,
                                                   const CommunicatorOptions& options,
                                                   const PeerMonitor::Endpoint& own) {
  const std::string backend = backend_of(options).value_or_throw();
  store->set(str_cat("monitor/", options.rank), str_cat(own.port, " ", own.address, " ", backend));
  std::vector<PeerMonitor::Endpoint> endpoints;
  for (Rank rank = 0; rank < options.size; ++rank) {
    const std::string text = store->get_to_str(str_cat("monitor/", rank));
    const std::vector<std::string> words = split(text, ' ');
    if (words.size() != 3) {
      throw Error(ErrorKind::kCorrupt, str_cat("rank ", rank, " gave no monitor address: ", text));
    }
    if (words[2] != backend) {
      throw Error(ErrorKind::kInvalid,
                  str_cat("rank ", rank, " uses the backend ", words[2], " and rank ", options.rank,
                          " uses ", backend, ": set LONGHAUL_BACKEND, or the option, alike"));
    }
    const auto port = static_cast<uint16_t>(std::strtoul(words[0].c_str(), nullptr, 10));
    endpoints.push_back({words[1], port});
  }
  return endpoints;
}

void start_monitor(const StorePtr& store, const std::string& host_address,
                   const std::shared_ptr<OperationWatch>& watch) {
  const CommunicatorOptions& options = watch->options();
  PeerMonitor::Options monitor_options;
  monitor_options.rank = options.rank;
  monitor_options.size = options.size;
  monitor_options.generation = options.generation;
  monitor_options.token = share_token(store, options);
  monitor_options.address = host_address;
  // A beat a second costs nothing. With a short time-out beats are closer, so that a silent rank is
  // known as silent (after three beats) well before operations run out of time.
  monitor_options.beat_interval =
      std::clamp(options.timeout / 10, milliseconds(50), milliseconds(1000));
  monitor_options.silence_limit = 3 * monitor_options.beat_interval;
  const auto fail = [](const Failure& failure) {
    throw CollectiveError(failure.kind, failure.message, -1);
  };
  const auto monitor = watch->start_monitor(monitor_options);
  if (!monitor) fail(monitor.failure());
  const auto endpoints = share_endpoints(store, options, {host_address, (*monitor)->port()});
  const Result<void> connected =
      (*monitor)->connect(endpoints, std::chrono::steady_clock::now() + options.timeout);
  if (!connected) fail(connected.failure());
}

class CommunicatorImpl final : public WatchedCommunicator {
 public:
  CommunicatorImpl(StorePtr store, StorePtr prefixed, std::string host_address,
                   std::shared_ptr<OperationWatch> watch, GroupPtr group)
      : store_(std::move(store)),
        prefixed_(std::move(prefixed)),
        host_address_(std::move(host_address)),
        watch_(std::move(watch)),
        group_(std::move(group)) {}

  ~CommunicatorImpl() override {
    // The goodbye must come before the connections of group_ close (a member, so after this body),
    // or the others would take our end for a crash.
    watch_->leave();
  }

  const std::shared_ptr<OperationWatch>& watch() const override { return watch_; }
  const CommunicatorOptions& options() const override { return watch_->options(); }
  const GroupPtr& process_group() const override { return group_; }
  GroupPtr new_process_group(const std::string& name) override {
    // A name used again gets keys of its own: the store still holds the addresses of the first.
    const std::string prefix = str_cat("group/", name, "/", groups_made_[name]++);
    return make_process_group(c10::make_intrusive<c10d::PrefixStore>(prefix, prefixed_),
                              host_address_, watch_);
  }
  const StorePtr& store() const override { return store_; }
  void begin_step(uint64_t step) override { watch_->begin_step(step); }
  Rank suspect() const override {
    const std::shared_ptr<PeerMonitor> monitor = watch_->monitor();
    return monitor ? monitor->suspect() : -1;
  }
  double measure_links(uint64_t bursts) override {
    const double rate = meter_.update(watch_->read_links(), bursts);
    watch_->traffic().set_link_rate(rate);
    return rate;
  }
  Traffic& traffic() override { return watch_->traffic(); }

 private:
  const StorePtr store_;     // as it was given
  const StorePtr prefixed_;  // of this meeting alone
  const std::string host_address_;
  const std::shared_ptr<OperationWatch> watch_;
  const GroupPtr group_;
  // How often each name was used. Ranks make groups in the same order, so their counts agree.
  std::map<std::string, int> groups_made_;
  LinkMeter meter_;
};

}  // namespace

std::shared_ptr<Communicator> Communicator::create(c10::intrusive_ptr<c10d::Store> store,
                                                   const CommunicatorOptions& options) {
  return create_communicator(std::move(store), options, options.timeout);
}

std::shared_ptr<Communicator> create_communicator(c10::intrusive_ptr<c10d::Store> store,
                                                  const CommunicatorOptions& options,
                                                  milliseconds patience) {
  check_options(store, options);
  if (!store) store = c10::make_intrusive<c10d::HashStore>();
  const std::string host_address = host_address_of(options).value_or_throw();
  auto watch = std::make_shared<OperationWatch>(options);
  StorePtr prefixed = store;
  // The monitor comes before the groups: it knows which rank has died when they cannot connect.
  if (options.size > 1) {
    prefixed = Meeting(store, options, patience).meet();
    start_monitor(prefixed, host_address, watch);
  }
  GroupPtr group = make_process_group(c10::make_intrusive<c10d::PrefixStore>("group", prefixed),
                                      host_address, watch);
  log(LogLevel::kInfo, "collectives", "rank ", options.rank, " of ", options.size, ", generation ",
      options.generation, ": connected on ", host_address);
  return std::make_shared<CommunicatorImpl>(std::move(store), prefixed, host_address,
                                            std::move(watch), std::move(group));
}

}  // namespace longhaul
