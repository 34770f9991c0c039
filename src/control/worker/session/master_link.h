// Keeps the worker in touch with its master: connects, registers, sends heartbeats, notices
// silence, connects again with growing delays. Says when the master has been away too long.
//
// Thread safety: none; lives on one EventLoop's thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "control/worker/host/event_loop.h"
#include "control/worker/session/master_stream.h"

namespace longhaul {

class MasterLink {
 public:
  struct Listener {
    std::function<v1::Register()> make_register;
    // A session begins; everything sent from now on travels on it.
    std::function<void(const v1::Registered&)> registered;
    std::function<void(v1::MasterMessage)> message;
    std::function<void()> heartbeat_sent;
    std::function<void()> heartbeat_answered;
    // The session is over; the link tries again by itself.
    std::function<void()> lost;
    // The master does not want this worker: no more tries.
    std::function<void(const std::string& reason)> refused;
    // No session for `away_timeout`, from the start on or since the last one. Called once per
    // absence.
    std::function<void()> away;
  };

  MasterLink(std::shared_ptr<EventLoop> loop, std::string address, const Credentials& credentials,
             milliseconds away_timeout, Listener listener);

  void start();
  bool up() const { return up_; }
  // Dropped while the link is down.
  void send(v1::WorkerMessage message);
  // Does not wait for the next turn.
  void send_heartbeat();
  // Takes leave of the master and stops trying; `done` is called when the stream is closed.
  void finish(std::function<void()> done);

 private:
  void connect();
  void on_message(v1::MasterMessage message);
  void on_registered(const v1::Registered& registered);
  void on_closed(const Failure& failure);
  void go_down();
  void watch_silence();
  void watch_absence();
  void complain(const std::string& why);

  const std::shared_ptr<EventLoop> loop_;
  const std::string address_;
  const Credentials credentials_;
  const milliseconds away_timeout_;
  const Listener listener_;
  std::unique_ptr<MasterStream> stream_;
  bool stream_open_ = false;  // closed() is still to come
  bool up_ = false;
  bool ending_ = false;
  std::function<void()> done_;

  milliseconds heartbeat_interval_{1'000};
  milliseconds silence_limit_{5'000};
  uint64_t heartbeat_sequence_ = 0;
  Instant last_heard_;
  EventLoop::TimerId heartbeat_timer_ = 0;
  EventLoop::TimerId attempt_timer_ = 0;  // bounds a try, then delays the next one
  EventLoop::TimerId away_timer_ = 0;

  // In a row, since the last registration.
  int failed_tries_ = 0;
  std::minstd_rand random_{std::random_device{}()};
  // Logged once, until it changes or a registration succeeds.
  std::string last_complaint_;
};

// How long to wait after the n-th failed try in a row (n >= 1): from 0.1 s, half as much again each
// time, up to 3 s; `fraction` in [0, 1) takes up to half of it away, so that a hundred workers do
// not come back at once.
milliseconds reconnect_delay(int failed_tries, double fraction);

}  // namespace longhaul
