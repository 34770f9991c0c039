// A rank's connection to the other ranks of its world: the process group its tensors are reduced
// over, the store they met through, what to do when time runs out. World (runtime/world.h) makes
// one; DistributedDataParallel takes one.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <string>

#include "longhaul/agent/ids.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/error.h"
#include "longhaul/collectives/traffic.h"

namespace c10d {
class ProcessGroup;
class Store;
}  // namespace c10d

namespace longhaul {

// A collective failed or ran out of time: which one, and because of whom. what() says all of it.
class CollectiveError : public Error {
 public:
  CollectiveError(ErrorKind kind, const std::string& message, Rank peer)
      : Error(kind, message), peer_(peer) {}
  // The rank whose absence or bytes made it fail; -1 when that is not known.
  Rank peer() const { return peer_; }

 private:
  Rank peer_;
};

struct CommunicatorOptions {
  Rank rank = 0;
  int size = 1;
  Generation generation = 0;
  // Where tensors live: Gloo serves CPU tensors, NCCL CUDA tensors (where built).
  c10::Device device = c10::Device(c10::DeviceType::CPU);
  // Address of this host that the other ranks can reach. Empty: the address by which this host
  // reaches `rendezvous_address`, else loopback.
  std::string host_address;
  std::string rendezvous_address;
  // What carries CPU tensors: "gloo" or "links" (docs/links.md); the same on all ranks. Empty:
  // LONGHAUL_BACKEND, else "gloo".
  std::string backend;
  // No collective takes longer: it fails with a CollectiveError instead. PyTorch waits 30 minutes.
  milliseconds timeout = std::chrono::minutes(5);
};

// Thread safety: accessors from any thread; collectives on process_group() from one thread, in the
// same order on every rank (c10d's rule). A thread of its own needs a group of its own:
// new_process_group().
class Communicator {
 public:
  // Meets the other ranks through `store` and connects to each of them; blocks until all are there.
  // `store` may be null when size is 1. Errors: CollectiveError (kDeadline, naming the ranks that
  // did not come), Error(kInvalid). In a world of several ranks SIGPIPE is ignored from here on,
  // unless the program handles it: a peer that dies must not take us along.
  static std::shared_ptr<Communicator> create(c10::intrusive_ptr<c10d::Store> store,
                                              const CommunicatorOptions& options);
  virtual ~Communicator() = default;

  virtual const CommunicatorOptions& options() const = 0;
  Rank rank() const { return options().rank; }
  int size() const { return options().size; }

  // All tensors of options().device and CPU tensors. Failures are CollectiveErrors.
  virtual const c10::intrusive_ptr<c10d::ProcessGroup>& process_group() const = 0;
  // Another group of the same ranks, for a thread of its own. Collective: every rank calls it with
  // the same `name`, in the same order.
  virtual c10::intrusive_ptr<c10d::ProcessGroup> new_process_group(const std::string& name) = 0;
  virtual const c10::intrusive_ptr<c10d::Store>& store() const = 0;

  // Said by DDP at the start of a backward pass, so that errors can name step and bucket.
  virtual void begin_step(uint64_t step) = 0;

  // The rank that is known to be gone (its connections closed first), else the one longest silent
  // beyond 3 s, else -1. Used to name the culprit.
  virtual Rank suspect() const = 0;

  // Looks at what the kernel has counted on this rank's connections since the last call: how many
  // bytes per second they carry, all together. 0: too little has been sent to tell. `bursts`: how
  // often traffic began anew since then (steps). From one thread.
  virtual double measure_links(uint64_t bursts) = 0;

  // Bytes and time of everything that went through process_group() and its sisters.
  virtual Traffic& traffic() = 0;
};

}  // namespace longhaul
