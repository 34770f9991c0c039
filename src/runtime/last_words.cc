#include "runtime/last_words.h"

#include <cxxabi.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>
#include <typeinfo>
#include <utility>
#include <vector>

#include "longhaul/base/mutex.h"
#include "longhaul/base/strings.h"
#include "longhaul/ddp/model_mismatch_error.h"

namespace longhaul {
namespace {

// How long a dying process waits for its worker to hear it.
constexpr std::chrono::seconds kPatience{2};

// Weak references: a World owns its speaker, and one that is gone has nothing to say any more.
Mutex speaker_mutex;
std::vector<std::weak_ptr<Speaker>> speakers LONGHAUL_GUARDED_BY(speaker_mutex);
std::terminate_handler handler_before = nullptr;

// The latest of those that are still there.
std::shared_ptr<Speaker> current_speaker() {
  MutexLock lock(speaker_mutex);
  for (size_t i = speakers.size(); i > 0; --i) {
    if (std::shared_ptr<Speaker> speaker = speakers[i - 1].lock()) return speaker;
  }
  return nullptr;
}

std::string type_name(const std::type_info& type) {
  int status = 0;
  char* name = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string text = status == 0 ? name : type.name();
  std::free(name);
  return text;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

bool is_ours(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error&) {
    return true;
  } catch (...) {
    return false;
  }
}

// A CollectiveError may not know who is to blame because it was thrown before the monitor's
// connection to that rank closed. By now the communicator may know.
RankFault with_suspect(RankFault fault, const Speaker& speaker) {
  if (fault.kind == ErrorKind::kPeerLost && fault.peer < 0 && speaker.communicator)
    fault.peer = speaker.communicator->suspect();
  return fault;
}

[[noreturn]] void on_terminate() {
  const std::exception_ptr exception = std::current_exception();
  const std::shared_ptr<Speaker> speaker = current_speaker();
  if (exception && speaker) {
    const bool ours = is_ours(exception);
    // Written before the worker is told, which may take 2 s: whoever stops this process meanwhile
    // should not take the line away. For others' exceptions the handler before this one speaks.
    if (ours) {
      const std::string line =
          str_cat("rank ", speaker->rank, ": ", describe_exception(exception), "\n");
      std::fflush(nullptr);
      std::fputs(line.c_str(), stderr);
    }
    report_fault_briefly(*speaker, with_suspect(fault_of(exception, speaker->rank), *speaker));
    // Without static destructors and atexit(): other threads still run and use what those destroy.
    if (ours) {
      std::fflush(nullptr);
      _exit(1);
    }
  }
  if (handler_before != nullptr) handler_before();
  std::abort();
}

}  // namespace

RankFault fault_of(const std::exception_ptr& exception, Rank self) {
  try {
    std::rethrow_exception(exception);
  } catch (const ModelMismatchError& error) {
    if (error.rank() == self) return {error.kind(), error.what(), -1};
    return {ErrorKind::kPeerLost, error.what(), error.rank()};
  } catch (const CollectiveError& error) {
    return {error.kind(), error.what(), error.peer()};
  } catch (const Error& error) {
    return {error.kind(), error.what(), -1};
  } catch (...) {
    return {ErrorKind::kInternal, describe_exception(exception), -1};
  }
}

std::string describe_exception(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return str_cat(type_name(typeid(error)), ": ", error.what());
  } catch (const std::exception& error) {
    return str_cat(type_name(typeid(error)), ": ", first_line(error.what()));
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    return str_cat("an exception of type ", type != nullptr ? type_name(*type) : "unknown");
  }
}

void report_fault_briefly(Speaker& speaker, const RankFault& fault) {
  if (!speaker.coordinator || speaker.has_spoken.exchange(true)) return;
  // A thread that can be left behind when the worker does not answer. It owns all that it uses.
  auto told = std::make_shared<std::promise<void>>();
  std::future<void> done = told->get_future();
  std::thread([coordinator = speaker.coordinator, fault, told] {
    // Nobody is left to be told that it was not heard.
    (void)coordinator->report_fault(fault);
    told->set_value();
  }).detach();
  (void)done.wait_for(kPatience);
}

void speak_at_terminate(const std::shared_ptr<Speaker>& speaker) {
  MutexLock lock(speaker_mutex);
  std::erase_if(speakers, [](const auto& before) { return before.expired(); });
  speakers.push_back(speaker);
  static const bool installed = [] {
    handler_before = std::set_terminate(on_terminate);
    return true;
  }();
  (void)installed;
}

}  // namespace longhaul
