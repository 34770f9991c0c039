// Sends this process's standard input to rank 0 of a job (`longhaul run --stdin`), as fast as the
// rank reads it.
#pragma once

#include <optional>
#include <string>

#include "base/thread.h"
#include "base/unique_fd.h"
#include "control/client/job_client.h"
#include "longhaul/agent/ids.h"
#include "longhaul/base/mutex.h"
#include "longhaul/base/result.h"

namespace longhaul::cli {

class InputPump {
 public:
  // Reads `input` on a thread of its own until its end, or until the job takes no more. A job whose
  // input cannot be read, or sent, is stopped, because its rank would take the part that it got for
  // the whole.
  InputPump(const std::string& master, JobId job, int input);
  // Stops reading and sending, wherever it is, and waits for the thread: for a call that is under
  // way up to its timeout (2 s).
  ~InputPump();
  InputPump(const InputPump&) = delete;
  InputPump& operator=(const InputPump&) = delete;

  // Why the job was stopped; nullopt: all is well.
  std::optional<Failure> failure() const;

 private:
  void run();
  Result<void> pump();
  // Of which life of the master's state it is, so that no other job of that id is given anything.
  Result<bool> know_job();
  // These two, and know_job(), return false when it is to stop.
  bool wait_for_input() const;
  bool pause(milliseconds length) const;

  JobClient client_;  // the thread's alone
  const JobId job_;
  const int input_;
  UniqueFd stop_;
  mutable Mutex mutex_;
  std::optional<Failure> failure_ LONGHAUL_GUARDED_BY(mutex_);
  Thread thread_;  // last: it starts when all else is there
};

}  // namespace longhaul::cli
