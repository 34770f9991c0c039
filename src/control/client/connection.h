// A client's connection to its master, and the one rule for a master that goes away, which every
// call follows:
//
// - Where nobody has ever answered, a refused dial is an error at once: there is no such master.
// - A connection on which nothing comes for `silence`, although it was asked for, is dead.
// - A master that has answered before is dialled again and again. A call that asks one thing is
//   made again within its own time; a stream goes on where it was, for as long as
//   ClientOptions::patience allows.
//
// gRPC polls a connection only while somebody waits on it (and every 5 s besides), so dialling
// means waiting for it.
//
// Thread safety: any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "control/client/job_client.h"
#include "longhaul/v1/job_service.grpc.pb.h"
#include "rpc/channel.h"

namespace longhaul {

// gRPC's words for a call that could not reach the master, in ours: "connection refused".
Failure master_failure(const grpc::Status& status, const std::string& whom);

class Connection {
 public:
  Connection(std::string address, ClientOptions options);

  const std::string& address() const { return address_; }
  std::string whom() const { return "master at " + address_; }
  const ClientOptions& options() const { return options_; }
  v1::JobService::Stub& stub() { return *stub_; }

  // A call that asks one thing; all of them may be repeated.
  template <typename Request, typename Reply>
  Result<Reply> call(grpc::Status (v1::JobService::Stub::*method)(grpc::ClientContext*,
                                                                  const Request&, Reply*),
                     const Request& request, bool* repeated = nullptr) {
    const WallTime deadline = std::chrono::system_clock::now() + options_.call_timeout;
    for (std::optional<grpc::Status> before;;) {
      (void)dial(deadline);
      grpc::ClientContext context;
      context.set_deadline(deadline + kLastWord);
      Reply reply;
      const grpc::Status status = ((*stub_).*method)(&context, request, &reply);
      if (status.ok()) return reply;
      if (!again(status, deadline)) return master_failure(telling(status, before), whom());
      before = status;
      if (repeated != nullptr) *repeated = true;
    }
  }

  // One try at a stream, to its end.
  struct Try {
    grpc::Status status;
    bool heard = false;  // something came
  };
  using Tell = std::function<void(const std::optional<Failure>& lost)>;
  // Tries until the stream has ended, not just broken. `wanted` says whether anybody still waits
  // for it; it is asked a few times a second while the master is away.
  Result<void> keep_up(const std::function<Try()>& attempt, const Tell& tell,
                       const std::function<bool()>& wanted);

 private:
  using WallTime = std::chrono::system_clock::time_point;
  enum class Dialled { kConnected, kRefused, kNoAnswer };
  // A call is made also when the dial has used up the time. It gets so much more, so that its error
  // can say why the master is not reached.
  static constexpr milliseconds kLastWord{200};

  Dialled dial(WallTime deadline);
  Dialled dial_while(Instant give_up, const std::function<bool()>& wanted);
  bool again(const grpc::Status& status, WallTime deadline) const;
  static const grpc::Status& telling(const grpc::Status& status,
                                     const std::optional<grpc::Status>& before);

  const std::string address_;
  const ClientOptions options_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::JobService::Stub> stub_;
  const SystemClock clock_;
  std::atomic<bool> met_ = false;  // it has answered before
};

}  // namespace longhaul
