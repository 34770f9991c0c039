#include "collectives/process_groups.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <signal.h>

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <set>

#include "base/random_id.h"
#include "collectives/checked_backend.h"
#include "collectives/gloo_links.h"
#include "collectives/links_backend.h"
#include "collectives/nccl_backend.h"
#include "collectives/self_backend.h"
#include "longhaul/base/strings.h"
#include "wire/socket.h"

namespace longhaul {
namespace {

using BackendType = c10d::ProcessGroup::BackendType;

// All ranks are known to be there when a group is made, so connecting takes seconds, whatever the
// time-out of operations is; a rank that dies meanwhile shows by this limit.
constexpr milliseconds kConnectLimit = std::chrono::seconds(60);

constexpr const char* kGloo = "gloo";
constexpr const char* kLinks = "links";

// PyTorch's variable: the interfaces to use, separated by commas; we take the first.
std::string interface_wanted() {
  const char* names = std::getenv("GLOO_SOCKET_IFNAME");
  return names == nullptr ? "" : split(names, ',')[0];
}

// Of an interface, in the kernel's order.
Result<std::vector<std::string>> addresses_of_interface(const std::string& name) {
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return Failure{ErrorKind::kInternal, "getifaddrs failed"};
  std::vector<std::string> found;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || name != one->ifa_name) continue;
    const int family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    char text[NI_MAXHOST];
    const socklen_t length = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    if (getnameinfo(one->ifa_addr, length, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) {
      found.emplace_back(text);
    }
  }
  freeifaddrs(all);
  if (!found.empty()) return found;
  return Failure{ErrorKind::kInvalid, str_cat("GLOO_SOCKET_IFNAME names '", name,
                                              "', and this host has no such interface with an "
                                              "address")};
}

// Gloo writes to sockets whose other end may be gone, and would die of SIGPIPE there. As Python
// does, we ignore it; a handler of the program's own stays.
void ignore_broken_pipes() {
  struct sigaction now = {};
  if (sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
}

GlooDevice make_device(const std::string& host_address) {
  return make_gloo_device(
      [&] { return c10d::ProcessGroupGloo::createDeviceForHostname(host_address); });
}

// Every rank says where its Gloo device listens, so that its connections can be told from others.
std::set<uint16_t> exchange_ports(const c10::intrusive_ptr<c10d::Store>& store, uint16_t own,
                                  const CommunicatorOptions& options) {
  store->set(str_cat("port/", options.rank), std::to_string(own));
  std::set<uint16_t> ports;
  for (Rank rank = 0; rank < options.size; ++rank) {
    if (rank == options.rank) continue;
    const std::string text = store->get_to_str(str_cat("port/", rank));
    const auto port = static_cast<uint16_t>(std::strtoul(text.c_str(), nullptr, 10));
    if (port != 0) ports.insert(port);
  }
  return ports;
}

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                    const std::string& host_address,
                                                    const std::shared_ptr<OperationWatch>& watch) {
  const CommunicatorOptions& options = watch->options();
  const std::string what = "connecting a process group";
  watch->check(what);
  ignore_broken_pipes();
  try {
    const GlooDevice device = make_device(host_address);
    auto links =
        std::make_shared<GlooLinks>(device.port, exchange_ports(store, device.port, options));
    auto gloo_options = c10d::ProcessGroupGloo::Options::create();
    gloo_options->devices.push_back(device.device);
    // The time-out in the options limits how long connecting takes; that of operations is set
    // below.
    gloo_options->timeout = std::min(options.timeout, kConnectLimit);
    auto gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(store, options.rank, options.size,
                                                            gloo_options);
    gloo->setTimeout(options.timeout);
    return c10::make_intrusive<CheckedBackend>(std::move(gloo), watch, std::move(links));
  } catch (...) {
    std::rethrow_exception(watch->translate(std::current_exception(), what));
  }
}

// Its connections, for OperationWatch.
class OwnLinks final : public GroupLinks {
 public:
  explicit OwnLinks(std::shared_ptr<LinkOperations> operations)
      : operations_(std::move(operations)) {}
  void sever() override {
    operations_->links().abort({ErrorKind::kPeerLost, -1, "this world has failed"});
  }
  bool ends_all() const override { return true; }
  std::vector<ConnectionReading> readings() const override {
    std::vector<ConnectionReading> all;
    operations_->links().for_each_connection([&](int fd) {
      if (const auto reading = read_connection(fd)) all.push_back(*reading);
    });
    return all;
  }

 private:
  const std::shared_ptr<LinkOperations> operations_;
};

// A secret of this group, told through its store.
std::array<uint8_t, 16> share_secret(const c10::intrusive_ptr<c10d::Store>& store,
                                     const CommunicatorOptions& options) {
  std::array<uint8_t, 16> secret{};
  if (options.rank == 0) {
    fill_random(secret.data(), secret.size());
    store->set("links-secret", std::vector<uint8_t>(secret.begin(), secret.end()));
    return secret;
  }
  const std::vector<uint8_t> bytes = store->get("links-secret");
  if (bytes.size() != secret.size()) {
    throw Error(ErrorKind::kCorrupt, str_cat("the store's secret has ", bytes.size(), " bytes"));
  }
  std::copy(bytes.begin(), bytes.end(), secret.begin());
  return secret;
}

c10::intrusive_ptr<c10d::Backend> make_links_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                     const std::string& host_address,
                                                     const std::shared_ptr<OperationWatch>& watch) {
  const CommunicatorOptions& options = watch->options();
  const std::string what = "connecting a process group";
  watch->check(what);
  try {
    Links::Options wanted;
    wanted.rank = options.rank;
    wanted.size = options.size;
    wanted.generation = options.generation;
    wanted.token = share_secret(store, options);
    wanted.address = host_address;
    std::unique_ptr<Links> links = Links::start(wanted).value_or_throw();
    store->set(str_cat("links/", options.rank), str_cat(links->port(), " ", host_address));
    std::vector<Links::Endpoint> endpoints;
    for (Rank rank = 0; rank < options.size; ++rank) {
      const std::string text = store->get_to_str(str_cat("links/", rank));
      const size_t space = std::min(text.find(' '), text.size() - 1);
      const auto port = static_cast<uint16_t>(std::strtoul(text.c_str(), nullptr, 10));
      endpoints.push_back({text.substr(space + 1), port});
    }
    const auto limit = std::min(options.timeout, kConnectLimit);
    const Result<void> met = links->connect(endpoints, std::chrono::steady_clock::now() + limit);
    if (!met) throw Error(met.failure().kind, met.failure().message);
    auto operations = std::make_shared<LinkOperations>(std::move(links));
    auto backend =
        c10::make_intrusive<LinksBackend>(options.rank, options.size, operations, options.timeout);
    return c10::make_intrusive<CheckedBackend>(std::move(backend), watch,
                                               std::make_shared<OwnLinks>(operations));
  } catch (...) {
    std::rethrow_exception(watch->translate(std::current_exception(), what));
  }
}

c10::intrusive_ptr<c10d::ProcessGroup> make_group_of_one(
    const c10::intrusive_ptr<c10d::Store>& store) {
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, 0, 1);
  const c10::intrusive_ptr<c10d::Backend> backend = c10::make_intrusive<SelfBackend>();
  group->setBackend(c10::DeviceType::CPU, BackendType::CUSTOM, backend);
  group->setBackend(c10::DeviceType::CUDA, BackendType::CUSTOM, backend);
  group->setDefaultBackend(BackendType::CUSTOM);
  return group;
}

}  // namespace

Result<std::string> host_address_of(const CommunicatorOptions& options) {
  if (const std::string interface = interface_wanted(); !interface.empty()) {
    const Result<std::vector<std::string>> addresses = addresses_of_interface(interface);
    if (!addresses) return addresses.failure();
    // An interface may have several addresses. If host_address is one of them it is taken, because
    // it is the one that the other ranks were told.
    const bool has_own = std::count(addresses->begin(), addresses->end(), options.host_address) > 0;
    return has_own ? options.host_address : addresses->front();
  }
  if (!options.host_address.empty()) return options.host_address;
  if (!options.rendezvous_address.empty()) {
    // The route to a host does not depend on the port, and nothing is sent; 9 is "discard".
    const Result<std::string> towards = local_address_towards(options.rendezvous_address, 9);
    if (towards) return towards;
  }
  return std::string("127.0.0.1");
}

Result<std::string> backend_of(const CommunicatorOptions& options) {
  std::string name = options.backend;
  if (const char* wanted = std::getenv("LONGHAUL_BACKEND"); name.empty() && wanted != nullptr) {
    name = wanted;
  }
  if (name.empty()) name = kGloo;
  if (name == kGloo || name == kLinks) return name;
  return Failure{ErrorKind::kInvalid,
                 str_cat("there is no backend '", name, "' for CPU tensors: gloo or links")};
}

c10::intrusive_ptr<c10d::ProcessGroup> make_process_group(
    const c10::intrusive_ptr<c10d::Store>& store, const std::string& host_address,
    const std::shared_ptr<OperationWatch>& watch) {
  const CommunicatorOptions& options = watch->options();
  if (options.size == 1) return make_group_of_one(store);
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, options.rank, options.size);
  if (backend_of(options).value_or_throw() == kLinks) {
    group->setBackend(c10::DeviceType::CPU, BackendType::CUSTOM,
                      make_links_backend(store, host_address, watch));
    group->setDefaultBackend(BackendType::CUSTOM);
  } else {
    group->setBackend(c10::DeviceType::CPU, BackendType::GLOO,
                      make_gloo_backend(store, host_address, watch));
    group->setDefaultBackend(BackendType::GLOO);
  }
  if (options.device.is_cuda()) {
    group->setBackend(c10::DeviceType::CUDA, BackendType::NCCL, make_nccl_backend(store, options));
    group->setDefaultBackend(BackendType::NCCL);
  }
  return group;
}

}  // namespace longhaul
