// The Coordinator of a rank that a longhaul-worker launched: calls to the worker's agent service on
// a unix socket. The worker gives each rank the socket and a token of its own in the environment.
//
//   if (AgentClient::in_environment()) {
//     std::unique_ptr<AgentClient> agent = AgentClient::from_environment().value_or_throw();
//     Placement placement = agent->join().value_or_throw();
//   }
//
// A worker that was killed may be started again and take its ranks over: calls wait for it, and
// those it was asked when it died are repeated. Only store_add() and store_compare_set() are not,
// once they were on their way: nobody could tell whether they would be done twice.
//
// Thread safety: all methods may be called from any thread.
// Time: store waits end at the timeout given; every other call ends within 30 s.
// Errors: kUnavailable (the worker is gone for longer than `patience`, or has lost its master for
// some seconds: the message names the socket), kDeadline, kPeerLost (the job is being stopped: who,
// and why), kInvalid (unknown token).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "longhaul/agent/coordinator.h"
#include "longhaul/agent/shards.h"

namespace longhaul {

class AgentClient final : public Coordinator {
 public:
  // What the worker sets: "unix:/path/agent.sock", and a secret that names one rank.
  static constexpr const char* kAddressVariable = "LONGHAUL_AGENT";
  static constexpr const char* kTokenVariable = "LONGHAUL_AGENT_TOKEN";

  // Whether a worker launched this process.
  static bool in_environment();
  // Errors: kInvalid (a variable is missing or is not an address).
  static Result<std::unique_ptr<AgentClient>> from_environment();

  // Longer than a worker's lease at its master: one that comes later finds the job failed.
  static constexpr milliseconds kPatience{15'000};

  // Does not connect yet. `address` is "unix:/path". `patience`: how long a worker may be away.
  AgentClient(std::string address, std::string token, milliseconds patience = kPatience);
  ~AgentClient() override;

  Result<Placement> join() override;

  Result<void> store_set(const std::string& key, const std::string& value) override;
  Result<std::string> store_get(const std::string& key, milliseconds timeout) override;
  Result<void> store_wait(const std::vector<std::string>& keys, milliseconds timeout) override;
  Result<int64_t> store_add(const std::string& key, int64_t amount) override;
  Result<bool> store_check(const std::vector<std::string>& keys) override;
  Result<bool> store_delete(const std::string& key) override;
  Result<std::string> store_compare_set(const std::string& key, const std::string& expected,
                                        const std::string& desired) override;

  // One exchange about a dataset, see shard_client.h. It may be made again as it is.
  Result<ShardAnswer> exchange_shards(const ShardExchange& exchange);

  Result<ReportAnswer> report(const RankProgress& progress) override;
  Result<void> report_fault(const RankFault& fault) override;
  Result<void> leave() override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace longhaul
