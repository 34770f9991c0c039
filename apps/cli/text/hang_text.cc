#include "apps/cli/text/hang_text.h"

#include <algorithm>

#include "longhaul/base/strings.h"

namespace longhaul::cli {
namespace {

constexpr const char* kMargin = "            ";

}  // namespace

std::string hang_line(const JobStatus& job, int64_t now_unix_ms) {
  if (!job.hang) return "";
  const auto since = static_cast<int64_t>(job.hang->unix_ms_since);
  const auto quiet_ms = static_cast<double>(std::max<int64_t>(0, now_unix_ms - since));
  return str_cat("job ", job.id, ": nothing has moved for ", format_seconds(quiet_ms / 1000), ": ",
                 job.hang->message);
}

std::string hang_details(const JobStatus& job) {
  if (!job.hang || !job.hang->rank) return "";
  std::string text;
  if (job.hang->process_state == "T" || job.hang->process_state == "t") {
    text += "  process   stopped (state T): SIGCONT lets it go on\n";
  } else if (job.hang->process_state == "D") {
    text += "  process   stuck in the kernel (state D): a disk or a network file system\n";
  }
  const char* margin = "  stack     ";
  for (const std::string& frame : job.hang->stack) {
    text += margin + frame + "\n";
    margin = kMargin;
  }
  return text;
}

}  // namespace longhaul::cli
