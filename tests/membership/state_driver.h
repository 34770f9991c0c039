// A ClusterState with its clock and the messages that it sent, so that a test reads as a story.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "longhaul/membership/cluster_state.h"

namespace longhaul::testing {

class StateDriver {
 public:
  explicit StateDriver(ClusterOptions options = {}) : state(options) {}

  Now now() const {
    return {Instant(milliseconds(1'000'000 + ms_)), static_cast<uint64_t>(1'700'000'000'000 + ms_)};
  }
  // Time passes; the workers on `beating` sessions send heartbeats meanwhile.
  void pass(int64_t ms, const std::vector<SessionId>& beating = {}) {
    for (int64_t done = 0; done < ms;) {
      const int64_t step = std::min<int64_t>(ms - done, 500);
      ms_ += step;
      done += step;
      for (const SessionId session : beating) state.heartbeat(session, ++beats_, now());
      state.tick(now());
      collect();
    }
  }

  SessionId connect(const std::string& id, int slots, const std::string& incarnation = "",
                    std::vector<LaunchId> inventory = {}) {
    const SessionId session = ++sessions_;
    state.register_worker(
        session,
        {id, incarnation.empty() ? id + "-1" : incarnation, "host-" + id,
         "10.0.0." + std::to_string(session), slots, 1, "0.1.0", std::move(inventory)},
        now());
    collect();
    return session;
  }
  void disconnect(SessionId session, bool goodbye = false) {
    state.session_closed(session, goodbye, now());
    collect();
  }

  Result<JobId> submit(int ranks, bool fail_when_full = false, const std::string& key = "") {
    JobSpec spec;
    spec.command = {"./train"};
    spec.ranks = ranks;
    spec.fail_when_full = fail_when_full;
    Result<JobId> id = state.submit(spec, key, now());
    collect();
    return id;
  }
  void stop(const JobId& job, bool force = false) {
    EXPECT_TRUE(state.stop(job, milliseconds(0), force, now()));
    collect();
  }

  void prepared(SessionId session, const JobId& job, const std::string& error = "") {
    const PreparedMessage message{LaunchId{job, 1}, error, 29'500};
    state.prepared(session, message, now());
    collect();
  }
  void says(SessionId session, const JobId& job, Rank rank, RankChange change,
            Generation generation = 1) {
    const RankEventMessage message{LaunchId{job, generation}, rank, std::move(change)};
    state.rank_event(session, message, now());
    collect();
  }
  void exits(SessionId session, const JobId& job, Rank rank, int code, int signal = 0,
             bool by_us = false) {
    says(session, job, rank,
         RankExit{signal != 0 ? 128 + signal : code, signal, by_us, "", {"last words"}, ""});
  }
  void store(SessionId session, uint64_t call, const JobId& job, Rank rank, StoreCommand command) {
    const StoreCallMessage message{call, LaunchId{job, 1}, rank, std::move(command)};
    state.store_call(session, message, now());
    collect();
  }

  const JobStatus& job(const JobId& id) const { return *state.status(id); }

  // The messages of one kind that a session has been sent and that were not taken yet.
  template <typename Message>
  std::vector<Message> take(SessionId session) {
    std::vector<Message> taken;
    std::vector<ToWorker> rest;
    for (ToWorker& message : sent_[session]) {
      if (auto* one = std::get_if<Message>(&message)) {
        taken.push_back(std::move(*one));
      } else {
        rest.push_back(std::move(message));
      }
    }
    sent_[session] = std::move(rest);
    return taken;
  }
  bool closed(SessionId session) const {
    return std::find(closed_.begin(), closed_.end(), session) != closed_.end();
  }

  ClusterState state;

 private:
  void collect() {
    for (Effect& effect : state.take_effects()) {
      if (auto* send = std::get_if<SendEffect>(&effect)) {
        sent_[send->session].push_back(std::move(send->message));
      } else if (const auto* close = std::get_if<CloseEffect>(&effect)) {
        closed_.push_back(close->session);
      }
    }
  }

  int64_t ms_ = 0;
  SessionId sessions_ = 0;
  uint64_t beats_ = 0;
  std::map<SessionId, std::vector<ToWorker>> sent_;
  std::vector<SessionId> closed_;
};

}  // namespace longhaul::testing
