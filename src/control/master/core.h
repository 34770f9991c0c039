// The master's owner thread: the one place where ClusterState is touched. gRPC's threads post what
// they heard; the effects are carried out here, after each task, without ever waiting for a peer.
//
// Thread safety: post(), stop_jobs(), close_sessions() and close() from any thread; the rest only
// inside a posted task.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "control/master/job_feed.h"
#include "longhaul/base/clock.h"
#include "longhaul/base/queue.h"
#include "longhaul/base/thread.h"
#include "longhaul/membership/cluster_state.h"
#include "longhaul/v1/worker_service.pb.h"

namespace longhaul {

// A worker's stream as the owner thread sees it. No method blocks.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  virtual void send(v1::MasterMessage message) = 0;
  // Ends the stream: after what was sent before when `drain`, else at once.
  virtual void close(const std::string& reason, bool drain) = 0;
};

class Core {
 public:
  struct Options {
    ClusterOptions cluster;
    size_t output_bytes_per_job = size_t{16} << 20;
    size_t output_bytes_of_ended_jobs = size_t{256} << 20;
  };

  Core(Options options, const Clock& clock, std::string incarnation);
  ~Core();

  using Task = std::function<void(ClusterState& state, Now now)>;
  // False, and the task is dropped, when the master is closing.
  bool post(Task task) { return tasks_.push(std::move(task)); }

  // Refuses new jobs, stops those there are and waits until all have ended, or until `limit` has
  // passed. Returns whether they have.
  bool stop_jobs(const std::string& reason, milliseconds limit);
  void close_sessions();
  // Runs what was posted, then ends the thread.
  void close();

  // Inside a task:
  SessionId add_session(std::shared_ptr<SessionSink> session);
  void remove_session(SessionId session);
  std::shared_ptr<JobFeed> feed(const JobId& job);
  void output(ClusterState& state, SessionId session, const v1::RankOutput& output, Now now);
  bool takes_jobs() const { return !stopping_; }

 private:
  struct Session {
    std::shared_ptr<SessionSink> sink;
    std::map<LaunchId, uint64_t> output_bytes;  // taken on this stream
  };

  void run();
  Now now() const;
  Instant next_wakeup() const;
  void carry_out();
  void perform(const Effect& effect);
  void publish(bool all);
  void trim_ended_output();

  const Options options_;
  const Clock& clock_;
  const std::string incarnation_;
  Queue<Task> tasks_;

  // The owner thread's.
  ClusterState state_;
  std::map<SessionId, Session> sessions_;
  SessionId last_session_ = 0;
  std::map<JobId, std::shared_ptr<JobFeed>> feeds_;
  std::map<JobId, bool> changed_;  // -> urgent
  Instant published_at_;
  bool stopping_ = false;
  std::function<void()> when_stopped_;

  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul
