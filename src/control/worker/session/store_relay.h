// Carries the ranks' store calls, and their exchanges about shards, to the master and the answers
// back. While the master is away calls wait for it a few seconds; calls that may be repeated are
// sent again on the new stream.
//
// Thread safety: none; lives on one EventLoop's thread. Every call is answered once, at the latest
// at its own timeout.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "cluster/cluster_messages.h"
#include "control/worker/host/event_loop.h"
#include "longhaul/base/error.h"
#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

class StoreRelay {
 public:
  using Answer = std::function<void(v1::StoreReply)>;
  using Send = std::function<void(v1::WorkerMessage)>;

  // How long a call waits for a master that is away.
  static constexpr milliseconds kMasterPatience{5'000};

  StoreRelay(EventLoop& loop, std::string master_address, Send send);
  ~StoreRelay();

  // For a new call; the master takes two calls with one id for one, now and later.
  uint64_t next_id() { return ++last_id_; }
  // A call that is still pending and comes again has nobody left who would hear its first answer.
  void call(uint64_t id, const LaunchId& launch, uint32_t rank, v1::StoreRequest request,
            Answer answer);
  void answer(const v1::StoreAnswer& answer);

  void connected();
  void disconnected();

  // Answers what is pending of a launch, of one rank of it, or everything.
  void fail_launch(const LaunchId& launch, const Failure& failure);
  void fail_rank(const LaunchId& launch, uint32_t rank, const Failure& failure);
  void fail_all(const Failure& failure);

 private:
  struct Call {
    LaunchId launch;
    uint32_t rank;
    v1::StoreRequest request;
    Answer answer;
    Instant deadline;
    EventLoop::TimerId timer = 0;
    bool sent = false;
  };
  using Calls = std::map<uint64_t, Call>;

  void send(uint64_t id, Call& call);
  void timed_out(uint64_t id);
  void away_too_long();
  void fail_where(const std::function<bool(const Call&)>& matches, const Failure& failure);
  void finish(Calls::iterator call, v1::StoreReply reply);

  EventLoop& loop_;
  const std::string master_;
  Send send_;
  bool connected_ = false;
  EventLoop::TimerId away_timer_ = 0;
  // There has been no session for kMasterPatience: new calls do not wait for one.
  bool away_long_ = false;
  uint64_t last_id_;
  Calls calls_;
};

v1::StoreReply to_store_reply(const Failure& failure);

}  // namespace longhaul
