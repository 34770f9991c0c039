#include "cluster/failure/exit_evidence.h"

#include <cxxabi.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <span>

#include "base/crash_handler.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

// Of a backtrace, and of each sentence or frame: they are kept in the job's status, for each rank.
constexpr size_t kMaxFrames = 32;
constexpr size_t kMaxTextBytes = 500;
// A shell's exit codes for a program that it cannot execute, and for one that it cannot find. The
// dynamic linker, too, exits with 127 when a library is missing.
constexpr int kNotExecutableCode = 126;
constexpr int kNotFoundCode = 127;

using Lines = std::vector<std::string_view>;

// Without escape sequences for colours: a program that was told to print them does so in a pipe,
// too.
std::string plain(std::string_view text) {
  std::string kept;
  while (!text.empty()) {
    const size_t escape = text.find("\x1b[");
    kept += text.substr(0, escape);
    if (escape == std::string_view::npos) break;
    const size_t end = text.find_first_not_of("0123456789;:", escape + 2);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return kept;
}

Lines lines_of(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
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

// What is put before every line by whoever passes output on: PyTorch's "[rank1]: ", torchrun's
// "[default1]:", mpirun's "[1,1]<stderr>:", "1: ". Longer ones, or ones that go on, are text.
bool may_be_prefix(std::string_view text) {
  constexpr size_t kMaxPrefixBytes = 80;
  return text.empty() ||
         (text.size() <= kMaxPrefixBytes && contains_any(text, {":", "]", ">", "|"}) &&
          text.find('"') == std::string_view::npos && text.find('\'') == std::string_view::npos);
}

// The same but for digits: in a prefix with a time or a counter they change from line to line.
bool looks_like(std::string_view text, std::string_view prefix) {
  const auto is_digit = [](char letter) { return letter >= '0' && letter <= '9'; };
  return text.size() == prefix.size() &&
         std::equal(text.begin(), text.end(), prefix.begin(),
                    [&](char a, char b) { return a == b || (is_digit(a) && is_digit(b)); });
}

// How the prefix of a first line comes again on the lines that belong to it: not at all, unchanged,
// or with other digits. Lines of other writers, which may stand between them, do not have it.
enum class Prefix { kNone, kExact, kAlike };

Prefix prefix_of(std::string_view prefix, std::string_view next) {
  const std::string_view bare = prefix.substr(0, prefix.find_last_not_of(' ') + 1);
  if (next.starts_with(bare)) return Prefix::kExact;
  if (looks_like(next.substr(0, bare.size()), bare)) return Prefix::kAlike;
  return Prefix::kNone;  // logging puts its prefix before the first line of a record alone
}

// `lines` follow the one with the prefix. Others may write between them.
Prefix kind_of_prefix(std::string_view prefix, std::span<const std::string_view> lines) {
  Prefix kind = Prefix::kNone;
  for (const std::string_view line : lines) {
    const Prefix here = prefix_of(prefix, line);
    if (here == Prefix::kExact) return here;
    if (here == Prefix::kAlike) kind = here;
    if (line.starts_with(' ')) return kind;  // what goes on without a prefix is indented
  }
  return kind;
}

// From the last line in which `beginning` stands, alone or after a prefix, to the end. The prefix
// is cut off, and lines that lack it are left out: others wrote them. Empty: there is no such line.
// The last one counts, because an earlier exception may have been caught and only logged.
Lines passage(const Lines& lines, std::string_view beginning) {
  for (size_t i = lines.size(); i > 0; --i) {
    const size_t at = lines[i - 1].find(beginning);
    if (at == std::string_view::npos || !may_be_prefix(lines[i - 1].substr(0, at))) continue;
    const std::string_view prefix = lines[i - 1].substr(0, at);
    const Prefix kind = kind_of_prefix(prefix, std::span(lines).subspan(i));
    Lines found = {lines[i - 1].substr(at)};
    for (const std::string_view line : std::span(lines).subspan(i)) {
      const bool ours = kind == Prefix::kNone || prefix_of(prefix, line) == kind;
      if (!ours) continue;
      found.push_back(line.substr(kind == Prefix::kNone ? 0 : std::min(at, line.size())));
    }
    return found;
  }
  return {};
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
  for (const std::string_view line : passage(lines, kCrashHeader)) {
    if (line.starts_with(kCrashFrame) && frames.size() < kMaxFrames) {
      frames.push_back(cut(readable_frame(line.substr(kCrashFrame.size()))));
    }
  }
  return frames;
}

// "Current thread 0x... (most recent call first):", then a frame a line until an empty one.
std::vector<std::string> python_backtrace(const Lines& lines) {
  std::vector<std::string> frames;
  // Python's faulthandler prints stacks on request, too; only those that follow this line are of a
  // crash.
  if (passage(lines, "Fatal Python error: ").empty()) return frames;
  const Lines thread = passage(lines, "Current thread ");
  for (size_t i = 1; i < thread.size() && frames.size() < kMaxFrames; ++i) {
    if (!thread[i].starts_with("  File ")) break;
    frames.push_back(cut(thread[i].substr(2)));
  }
  return frames;
}

// A class with its module and whatever holds it: `torch.OutOfMemoryError`, `__main__.f.<locals>.E`.
bool is_class_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char letter) {
    const bool is_ascii = static_cast<unsigned char>(letter) < 0x80;
    return !is_ascii || (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || contains_any({&letter, 1}, {".", "_", "<", ">"});
  });
}

// After the last traceback, the first line that is not part of it: "ValueError: bad shape".
std::string python_exception(const Lines& lines) {
  const Lines traceback = passage(lines, "Traceback (most recent call last):");
  for (size_t i = 1; i < traceback.size(); ++i) {
    const std::string_view line = traceback[i];
    if (line.empty() || line.front() == ' ') continue;
    // The class, then a colon or the end.
    return is_class_name(line.substr(0, line.find(':'))) ? cut(line) : "";
  }
  return "";
}

// libstdc++: "terminate called after throwing an instance of 'std::bad_alloc'", then "  what():  ".
std::string uncaught_exception(const Lines& lines) {
  constexpr std::string_view kBeginning = "terminate called after throwing an instance of '";
  constexpr std::string_view kWhat = "  what():  ";
  const Lines words = passage(lines, kBeginning);
  if (words.empty()) return "";
  std::string_view type = words[0].substr(kBeginning.size());
  type = type.substr(0, type.rfind('\''));
  const bool has_what = words.size() > 1 && words[1].starts_with(kWhat);
  return cut(has_what ? str_cat(type, ": ", words[1].substr(kWhat.size())) : std::string(type));
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
  const std::string bare = plain(text);
  const Lines lines = lines_of(bare);
  evidence.backtrace = our_backtrace(lines);
  if (evidence.backtrace.empty()) evidence.backtrace = python_backtrace(lines);
  // A process prints why it ends only where it ends itself, by exit() or abort(). Any other signal
  // interrupts it, and what it printed before is no reason; only a crash handler's backtrace is,
  // which has been read above.
  if (signal != 0 && signal != SIGABRT) return evidence;
  if (signal == 0) {
    evidence.exception = python_exception(lines);
    // The dynamic linker's complaint may stand on any line, and its exit code confirms it. Without
    // that code the complaint counts only inside the exception that ended the program: many
    // programs warn of a library that they can do without.
    evidence.cannot_run =
        missing_library(exit_code == kNotFoundCode ? lines : Lines{evidence.exception});
    if (evidence.cannot_run.empty()) evidence.cannot_run = missing_program(lines, exit_code);
  }
  if (evidence.exception.empty()) evidence.exception = uncaught_exception(lines);
  return evidence;
}

}  // namespace longhaul
