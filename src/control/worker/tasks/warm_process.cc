#include "control/worker/tasks/warm_process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "base/descriptors.h"
#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

constexpr const char* kInputsVariable = "LONGHAUL_WARM_INPUTS";
constexpr size_t kReadBytes = size_t{256} << 10;
constexpr milliseconds kReadAgain{1'000};
constexpr int kPipeBytes = 1 << 20;  // what a user may have

Failure pipe_failure(const std::string& path) {
  const int error = errno;
  return {is_passing(error) ? ErrorKind::kExhausted : ErrorKind::kUnavailable,
          str_cat(path, ": ", ::strerror(error))};
}

// The shim starts a task with /dev/null as its stdin. So a shell is started, which opens the pipe
// as its stdin and then becomes the program.
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

WarmProcess::WarmProcess(EventLoop& loop, FolderRemover& remover, ProcessFolder folder,
                         UniqueFd inputs, uint64_t longest, Listener listener)
    : loop_(loop),
      remover_(remover),
      folder_(std::move(folder)),
      inputs_(std::move(inputs)),
      longest_(longest),
      listener_(std::move(listener)),
      output_(folder_, 0) {}

WarmProcess::~WarmProcess() {
  loop_.cancel(look_again_);
  process_.reset();
  remover_.remove(folder_.path());
}

Result<std::unique_ptr<WarmProcess>> WarmProcess::start(
    EventLoop& loop, FolderRemover& remover, const std::string& folder, const std::string& token,
    const ShimOptions& shim, ProcessCommand command, uint64_t longest, Listener listener) {
  Result<ProcessFolder> made = ProcessFolder::create(folder, token);
  if (!made) return made.failure();
  const std::string pipe = folder + "/inputs";
  UniqueFd inputs;
  if (::mkfifo(pipe.c_str(), S_IRUSR | S_IWUSR) == 0) {
    inputs = UniqueFd(::open(pipe.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  }
  if (!inputs.valid()) {
    Failure failure = pipe_failure(pipe);
    remover.remove(folder);
    return failure;
  }
  ::fcntl(inputs.get(), F_SETPIPE_SZ, kPipeBytes);  // as much as it gets
  command.env.push_back(made->mark());
  std::unique_ptr<WarmProcess> warm(new WarmProcess(
      loop, remover, std::move(*made), std::move(inputs), longest, std::move(listener)));
  ManagedProcess::Listener heard;
  heard.started = [](int64_t) {};
  heard.output = [self = warm.get()] { self->look(); };
  heard.lingers = [](const ProcessEnd&) {};
  heard.ended = [self = warm.get()](const ProcessEnd& end) {
    // A last answer may still lie in the spool.
    self->end_ = end;
    self->look();
    self->tell_end();
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
  // The pipe is empty, because look() takes no answer before the last input has been read. So a
  // line that fits the pipe is written whole.
  const ssize_t written = ::write(inputs_.get(), line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) {
    asked_ = true;
    // What it wrote to stderr while it started belongs to its first task.
    if (offset_ > 0) said_before_ = SpoolReader(folder_, 1).end();
    return {};
  }
  // The process would take the half line for an input.
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
  // What it has printed cannot be read now, and it may print nothing more: it waits for an input,
  // and the task for its answer.
  if (!output_.trouble().empty()) return look_later();
  const size_t end = line_.find('\n');
  if (end == std::string::npos) return;
  if (!asked_) return break_off("it printed a line that no input asked for");
  if (has_unread_input()) return break_off("it printed a line before it had read its input");
  if (end + 1 < line_.size()) return break_off("it printed more than one line for one input");
  line_.pop_back();
  asked_ = false;
  listener_.answered(std::exchange(line_, {}));
}

void WarmProcess::look_later() {
  if (look_again_ != 0) return;
  look_again_ = loop_.after(kReadAgain, [this] {
    look_again_ = 0;
    look();
    tell_end();
  });
}

// Once all that it has printed was read.
void WarmProcess::tell_end() {
  if (!end_ || look_again_ != 0) return;
  listener_.ended(*std::exchange(end_, std::nullopt), broken_);
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
