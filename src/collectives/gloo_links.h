// The TCP connections of one Gloo group, so that they can be severed: shutdown(2) on them is the
// one way to end an operation that waits inside Gloo (its closeConnections() lets it hang). Gloo
// does not hand its sockets out, so they are recognised by their ports: ours is the one listening
// socket that appears while the device is made; the peers' come through the store.
//
// Where that cannot be sure (another thread listens at the same moment), nothing is severed and
// pending operations end by Gloo's own errors, the grace time or the time-out.
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "collectives/operation_watch.h"

namespace longhaul {

struct GlooDevice {
  std::shared_ptr<::gloo::transport::Device> device;
  uint16_t port = 0;  // where it listens; 0: could not be told
};

// Makes a device and finds its port; devices are made one at a time in a process.
GlooDevice make_gloo_device(
    const std::function<std::shared_ptr<::gloo::transport::Device>()>& make);

class GlooLinks final : public GroupLinks {
 public:
  // peer_ports: of all other ranks, without zeros.
  GlooLinks(uint16_t own_port, std::set<uint16_t> peer_ports)
      : own_port_(own_port), peer_ports_(std::move(peer_ports)) {}
  void sever() override;
  std::vector<ConnectionReading> readings() const override;

 private:
  void for_each(const std::function<void(int fd)>& visit) const;

  const uint16_t own_port_;
  const std::set<uint16_t> peer_ports_;
};

}  // namespace longhaul
