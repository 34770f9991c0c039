#include "collectives/verdict.h"

#include "longhaul/base/strings.h"

namespace longhaul {

// "imed out" is part of "Timed out" and of "timed out".
bool speaks_of_timeout(const std::string& backend_text) {
  for (const char* word : {"imed out", "timeout", "Timeout"}) {
    if (backend_text.find(word) != std::string::npos) return true;
  }
  return false;
}

CollectiveError judge(Rank self, const std::string& operation, const Evidence& evidence) {
  const std::string where = str_cat(operation, " failed on rank ", self, ": ");
  // What the monitor saw itself or was told comes first: it alone knows who went first.
  if (evidence.fault) {
    return {evidence.fault->kind, where + evidence.fault->message, evidence.fault->culprit};
  }
  if (speaks_of_timeout(evidence.backend_text)) {
    const std::string late =
        str_cat(where, "not done within ", format_seconds(evidence.timeout.count() / 1000.0));
    // A silent rank explains a time-out best; then one that left; then one that is behind, which
    // may itself only wait for somebody else.
    if (evidence.silent >= 0) {
      return {ErrorKind::kDeadline,
              str_cat(late, "; rank ", evidence.silent, " is silent: stopped, or cut off"),
              evidence.silent};
    }
    if (evidence.left >= 0) {
      return {ErrorKind::kDeadline, str_cat(late, "; rank ", evidence.left, " has left early"),
              evidence.left};
    }
    if (const auto& laggard = evidence.laggard) {
      return {
          ErrorKind::kDeadline,
          str_cat(late, "; rank ", laggard->rank, " is alive but did not take part: it has begun ",
                  laggard->begun, " operations, this rank ", laggard->own),
          laggard->rank};
    }
    return {ErrorKind::kDeadline,
            late + "; every rank is alive, so one of them did not take part in it", -1};
  }
  if (evidence.left >= 0) {
    return {
        ErrorKind::kPeerLost,
        str_cat(where, "rank ", evidence.left, " has left early, in order, while it was needed"),
        evidence.left};
  }
  if (evidence.silent >= 0) {
    // Another survivor gave up on it a moment earlier, and its closing connections reached us.
    return {ErrorKind::kDeadline,
            str_cat(where, "rank ", evidence.silent,
                    " is silent: stopped, or cut off; another rank gave up waiting first (",
                    evidence.backend_text, ")"),
            evidence.silent};
  }
  return {ErrorKind::kPeerLost, where + evidence.backend_text, -1};
}

}  // namespace longhaul
