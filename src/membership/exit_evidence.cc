#include "longhaul/membership/exit_evidence.h"

#include <cxxabi.h>
#include <signal.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <initializer_list>
#include <optional>

#include "longhaul/base/crash_handler.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr size_t kMaxFrames = 32;
constexpr size_t kMaxTextBytes = 500;
// Of a shell, for what it cannot execute and what it cannot find.
constexpr int kNotExecutableCode = 126;
constexpr int kNotFoundCode = 127;

using Lines = std::vector<std::string_view>;

Lines lines_of(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

bool contains_any(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [text](std::string_view part) {
    return text.find(part) != std::string_view::npos;
  });
}

std::string cut(std::string_view text) {
  return std::string(text.substr(0, kMaxTextBytes));
}

// Of the last line that begins so.
std::optional<size_t> find_last(const Lines& lines, std::string_view beginning) {
  for (size_t i = lines.size(); i > 0; --i) {
    if (lines[i - 1].starts_with(beginning)) return i - 1;
  }
  return std::nullopt;
}

std::string demangle(const std::string& name) {
  int status = 0;
  char* plain = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
  std::string text = status == 0 ? plain : name;
  std::free(plain);
  return text;
}

// "#3 0x55d0 _Z4stepi at train.cc:12" with the name as people write it.
std::string readable_frame(std::string_view frame) {
  std::vector<std::string> words = split(std::string(frame), ' ');
  for (std::string& word : words) {
    if (word.starts_with("_Z")) word = demangle(word);
  }
  return join(words, " ");
}

std::vector<std::string> our_backtrace(const Lines& lines) {
  std::vector<std::string> frames;
  const std::optional<size_t> first = find_last(lines, kCrashHeader);
  if (!first) return frames;
  for (size_t i = *first + 1; i < lines.size() && frames.size() < kMaxFrames; ++i) {
    if (lines[i].starts_with(kCrashFrame)) {
      frames.push_back(cut(readable_frame(lines[i].substr(kCrashFrame.size()))));
    }
  }
  return frames;
}

// "Current thread 0x... (most recent call first):", then a frame a line until an empty one.
std::vector<std::string> python_backtrace(const Lines& lines) {
  std::vector<std::string> frames;
  if (!find_last(lines, "Fatal Python error: ")) return frames;
  const std::optional<size_t> first = find_last(lines, "Current thread ");
  if (!first) return frames;
  for (size_t i = *first + 1; i < lines.size() && frames.size() < kMaxFrames; ++i) {
    if (!lines[i].starts_with("  File ")) break;
    frames.push_back(cut(lines[i].substr(2)));
  }
  return frames;
}

// After the last traceback, the first line that is not part of it: "ValueError: bad shape".
std::string python_exception(const Lines& lines) {
  const std::optional<size_t> first = find_last(lines, "Traceback (most recent call last):");
  if (!first) return "";
  for (size_t i = *first + 1; i < lines.size(); ++i) {
    const std::string_view line = lines[i];
    if (line.empty() || line.front() == ' ') continue;
    // A module's path, then a colon or the end: `torch.OutOfMemoryError: CUDA out of memory`.
    const std::string_view name = line.substr(0, line.find(':'));
    const bool is_name = std::all_of(name.begin(), name.end(), [](unsigned char letter) {
      return std::isalnum(letter) || letter == '.' || letter == '_';
    });
    return is_name ? cut(line) : "";
  }
  return "";
}

// libstdc++: "terminate called after throwing an instance of 'std::bad_alloc'", then "  what():  ".
std::string uncaught_exception(const Lines& lines) {
  constexpr std::string_view kBeginning = "terminate called after throwing an instance of '";
  constexpr std::string_view kWhat = "  what():  ";
  const std::optional<size_t> at = find_last(lines, kBeginning);
  if (!at) return "";
  std::string_view type = lines[*at].substr(kBeginning.size());
  type = type.substr(0, type.rfind('\''));
  const bool has_what = *at + 1 < lines.size() && lines[*at + 1].starts_with(kWhat);
  return cut(has_what ? str_cat(type, ": ", lines[*at + 1].substr(kWhat.size()))
                      : std::string(type));
}

// "libfoo.so.1: cannot open shared object file: No such file or directory", of the dynamic linker
// or of a dlopen() whose error nobody caught.
std::string missing_library(const Lines& lines) {
  constexpr std::string_view kComplaint = ": cannot open shared object file";
  for (size_t i = lines.size(); i > 0; --i) {
    const size_t end = lines[i - 1].find(kComplaint);
    if (end == std::string_view::npos) continue;
    const std::string_view before = lines[i - 1].substr(0, end);
    const size_t space = before.rfind(' ');
    return cut(str_cat("missing library ",
                       space == std::string_view::npos ? before : before.substr(space + 1)));
  }
  return "";
}

// "sh: 1: train: not found", of a script around the program.
std::string missing_program(const Lines& lines, int exit_code) {
  if (exit_code != kNotFoundCode && exit_code != kNotExecutableCode) return "";
  for (size_t i = lines.size(); i > 0; --i) {
    const std::string_view line = lines[i - 1];
    if (line.ends_with("not found") || line.ends_with("No such file or directory") ||
        line.ends_with("Permission denied") || line.ends_with("Exec format error")) {
      return cut(line);
    }
  }
  return "";
}

}  // namespace

bool says_out_of_memory(std::string_view exception) {
  return contains_any(
      exception, {"bad_alloc", "MemoryError", "OutOfMemoryError", "CUDA out of memory",
                  "CUDA error: out of memory", "can't allocate memory", "Cannot allocate memory",
                  "not enough memory"});
}

bool says_peer_failed(std::string_view exception) {
  return contains_any(
      exception, {"Connection closed by peer", "Connection reset by peer", "Connection refused",
                  "ConnectionResetError", "ConnectionRefusedError", "BrokenPipeError",
                  "Broken pipe", "DistNetworkError", "DistStoreError", "remote process exited",
                  "NCCL communicator was aborted", "Timed out", "timed out", "Socket Timeout"});
}

ExitEvidence read_last_output(std::string_view text, int exit_code, int signal) {
  ExitEvidence evidence;
  if (exit_code == 0 && signal == 0) return evidence;
  const Lines lines = lines_of(text);
  evidence.backtrace = our_backtrace(lines);
  if (evidence.backtrace.empty()) evidence.backtrace = python_backtrace(lines);
  if (signal != 0 && signal != SIGABRT) return evidence;  // what it printed before is another story
  if (signal == 0) {
    evidence.exception = python_exception(lines);
    // What another program only warned of is no cause.
    evidence.cannot_run =
        missing_library(exit_code == kNotFoundCode ? lines : Lines{evidence.exception});
    if (evidence.cannot_run.empty()) evidence.cannot_run = missing_program(lines, exit_code);
  }
  if (evidence.exception.empty()) evidence.exception = uncaught_exception(lines);
  return evidence;
}

}  // namespace longhaul
