#include "control/worker/process/exit_report.h"

#include <signal.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/crash_handler.h"
#include "base/log.h"
#include "cluster/failure/exit_evidence.h"
#include "control/worker/host/small_file.h"
#include "control/worker/output/last_lines.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr size_t kMaxMessageBytes = 500;
// Python writes a traceback into it; a rank can write anything.
constexpr size_t kMaxErrorFileBytes = size_t{1} << 20;
// How our own remarks in a rank's output begin (the shim's, about processes that it had to end).
constexpr std::string_view kRemark = "[longhaul: ";

// What the rank itself has said.
std::string without_remarks(const std::string& text) {
  if (text.find(kRemark) == std::string::npos) return text;
  std::string own;
  for (const std::string& line : split(text, '\n')) {
    if (!line.starts_with(kRemark)) own += line + "\n";
  }
  return own;
}

}  // namespace

std::string out_of_memory_witness(OomWatch& watch, const ProcessEnd& end, int64_t pid) {
  // A shell around the program exits with 128 + signal when the program was killed.
  const bool killed = end.signal == SIGKILL || end.exit_code == 128 + SIGKILL;
  return killed && !end.stopped_by_us ? watch.witness_of(pid) : "";
}

std::string read_error_file(const std::string& path) {
  const Result<std::optional<std::string>> file = read_small_file(path, kMaxErrorFileBytes);
  if (!file) log(LogLevel::kWarning, "worker", "error file ", file.failure().message);
  if (!file || !*file) return "";
  const nlohmann::json error = nlohmann::json::parse(**file, nullptr, /*allow_exceptions=*/false);
  if (!error.is_object() || !error.contains("message")) return "";
  const nlohmann::json& message = error["message"];
  const nlohmann::json& text =
      message.is_object() && message.contains("message") ? message["message"] : message;
  if (!text.is_string()) return "";
  const auto whole = text.get<std::string>();
  return whole.substr(0, std::min(whole.find('\n'), kMaxMessageBytes));
}

RankExit exit_report(const ProcessEnd& end, const std::string& error_output,
                     const std::string& output_text, const std::string& error_file) {
  RankExit exit = end;
  exit.launch_error = to_utf8(end.launch_error);
  exit.evidence = {};
  const std::string error_text = without_remarks(error_output);
  LastLines lines;
  lines.append(error_text);
  if (lines.empty()) lines.append(output_text);
  for (const std::string& line : lines.lines()) {
    // The backtrace has a place of its own, with names that can be read.
    if (!line.starts_with(kCrashFrame)) exit.last_lines.push_back(line);
  }
  // How a rank ended that was stopped, or was never started, says nothing about a cause of its own.
  if (end.stopped_by_us || !end.launch_error.empty()) return exit;

  ExitEvidence evidence = read_last_output(error_text, end.exit_code, end.signal);
  if (std::string said = read_error_file(error_file); !said.empty()) {
    evidence.exception = std::move(said);
  }
  exit.evidence.exception = to_utf8(evidence.exception);
  exit.evidence.cannot_run = to_utf8(evidence.cannot_run);
  exit.evidence.out_of_memory = end.evidence.out_of_memory;
  for (const std::string& frame : evidence.backtrace) {
    exit.evidence.backtrace.push_back(to_utf8(frame));
  }
  return exit;
}

}  // namespace longhaul
