#include "control/worker/tasks/warm_process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr const char* kInputsVariable = "LONGHAUL_WARM_INPUTS";
constexpr size_t kReadBytes = size_t{256} << 10;
constexpr int kPipeBytes = 1 << 20;  // what a user may have

Failure pipe_failure(const std::string& path) {
  return {ErrorKind::kUnavailable, str_cat(path, ": ", ::strerror(errno))};
}

// The shim gives a rank no stdin; a shell opens the pipe in its place.
ProcessCommand with_stdin(ProcessCommand command, const std::string& pipe) {
  std::vector<std::string> argv = {
      "sh", "-c", str_cat("exec \"$0\" \"$@\" <\"$", kInputsVariable, "\""), command.program};
  argv.insert(argv.end(), command.argv.begin() + 1, command.argv.end());
  command.argv = std::move(argv);
  command.program = "/bin/sh";
  command.env.push_back(str_cat(kInputsVariable, "=", pipe));
  return command;
}

}  // namespace

WarmProcess::WarmProcess(FolderRemover& remover, ProcessFolder folder, UniqueFd inputs,
                         uint64_t longest, Listener listener)
    : remover_(remover),
      folder_(std::move(folder)),
      inputs_(std::move(inputs)),
      longest_(longest),
      listener_(std::move(listener)),
      output_(folder_, 0) {}

WarmProcess::~WarmProcess() {
  process_.reset();
  remover_.remove(folder_.path());
}

Result<std::unique_ptr<WarmProcess>> WarmProcess::start(
    EventLoop& loop, FolderRemover& remover, const std::string& folder, const std::string& token,
    const ShimOptions& shim, ProcessCommand command, uint64_t longest, Listener listener) {
  Result<ProcessFolder> made = ProcessFolder::create(folder, token);
  if (!made) return made.failure();
  const std::string pipe = folder + "/inputs";
  if (::mkfifo(pipe.c_str(), S_IRUSR | S_IWUSR) != 0) return pipe_failure(pipe);
  UniqueFd inputs(::open(pipe.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!inputs.valid()) return pipe_failure(pipe);
  ::fcntl(inputs.get(), F_SETPIPE_SZ, kPipeBytes);  // as much as it gets
  command.env.push_back(made->mark());
  std::unique_ptr<WarmProcess> warm(
      new WarmProcess(remover, std::move(*made), std::move(inputs), longest, std::move(listener)));
  ManagedProcess::Listener heard;
  heard.started = [](int64_t) {};
  heard.output = [self = warm.get()] { self->look(); };
  heard.lingers = [](const RankEnd&) {};
  heard.ended = [self = warm.get()](const RankEnd& end) {
    self->look();
    self->listener_.ended(end, self->broken_);
  };
  warm->process_ = std::make_unique<ManagedProcess>(loop, warm->folder_, std::move(heard));
  const Result<void> started = warm->process_->start(shim, with_stdin(std::move(command), pipe));
  if (!started) return started.failure();
  return warm;
}

Result<void> WarmProcess::give(const std::string& input) {
  if (input.find('\n') != std::string::npos) {
    return Failure{ErrorKind::kInvalid,
                   "its input is more than one line, which --warm cannot take"};
  }
  const std::string line = input + "\n";
  const ssize_t written = ::write(inputs_.get(), line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) {
    asked_ = true;
    // What it said when it started is part of its first task.
    if (offset_ > 0) said_before_ = SpoolReader(folder_, 1).end();
    return {};
  }
  if (written > 0) break_off("its input was longer than a pipe holds");
  return Failure{
      ErrorKind::kInvalid,
      str_cat("its input has ", format_bytes(input.size()), ", more than a pipe holds: ",
              format_bytes(static_cast<uint64_t>(::fcntl(inputs_.get(), F_GETPIPE_SZ))))};
}

void WarmProcess::look() {
  if (!broken_.empty()) return;
  for (std::string bytes = output_.read(offset_, kReadBytes); !bytes.empty();
       bytes = output_.read(offset_, kReadBytes)) {
    offset_ += bytes.size();
    line_ += bytes;
    if (line_.size() > longest_ + 1) {
      return break_off(
          str_cat("its result has more than the ", format_bytes(longest_), " of --max-result"));
    }
  }
  output_.acknowledge(offset_);
  const size_t end = line_.find('\n');
  if (end == std::string::npos) return;
  if (!asked_) return break_off("it printed a line that no input asked for");
  if (has_unread_input()) return break_off("it printed a line before it had read its input");
  if (end + 1 < line_.size()) return break_off("it printed more than one line for one input");
  line_.pop_back();
  asked_ = false;
  listener_.answered(std::exchange(line_, {}));
}

std::string WarmProcess::said() const {
  SpoolReader said(folder_, 1);
  std::string tail = said.tail();
  const uint64_t wanted = said.end() - std::min(said.end(), said_before_);
  if (wanted < tail.size()) tail.erase(0, tail.size() - wanted);
  return tail;
}

bool WarmProcess::has_unread_input() const {
  int unread = 0;
  return inputs_.valid() && ::ioctl(inputs_.get(), FIONREAD, &unread) == 0 && unread > 0;
}

void WarmProcess::break_off(const std::string& why) {
  broken_ = why;
  process_->kill();
}

}  // namespace longhaul
