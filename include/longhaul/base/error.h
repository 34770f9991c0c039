// What can go wrong, said twice: as a value below the public surface (`Failure`, carried by
// Result<T>) and as an exception on it (`Error`), because libtorch users expect exceptions.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace longhaul {

// A kind says what the caller should do, not where the error came from.
enum class ErrorKind {
  kInvalid,      // fix the call, the flag or the file: trying again cannot help
  kUnavailable,  // try again later: the other side is not there (yet)
  kDeadline,     // no answer within the time allowed
  kPeerLost,     // a rank or worker is gone: rejoin with the survivors, or stop
  kCorrupt,      // drop the bytes and name their sender
  kStale,        // the message is of an older generation or epoch: drop it
  kInternal,     // a bug or a broken machine: report it
  kExhausted,    // try again later: the other side is there, but has no room (its disk is full)
  kDenied,       // get the right to do it, or ask somebody who has it
};

// "invalid", "unavailable", "deadline", "peer lost", "corrupt", "stale", "internal",
// "exhausted", "denied".
std::string_view to_string(ErrorKind kind);

// An expected failure as a value. `message` holds the values that were seen.
struct Failure {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;
};

// Base of every exception that Longhaul throws at users of its torch-facing classes.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  explicit Error(const Failure& failure) : Error(failure.kind, failure.message) {}

  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace longhaul
