// Makes calls into the kernel fail by plan, in any program that is started with it as LD_PRELOAD:
// what our own code calls, and what SQLite, gRPC and libstdc++ call. Programs are not changed by a
// byte. (What libc calls by itself is not reached, nor is a static program.)
//
// The plan is the file $LONGHAUL_FAILPOINTS, read anew whenever it has changed; no file, no
// failures. A line each:
//
//   PROGRAM CALL ERRNO TIMES [PATH]
//
// In processes of PROGRAM (the last part of argv[0]) the next TIMES calls of all of them together
// fail with ERRNO (a number): open, read, write, fsync, accept, pipe, fork, mmap. PATH: only of
// files whose path holds it. read and write: only of files, never of sockets, pipes and event
// counters. Each failure adds a line "PROGRAM CALL" to $LONGHAUL_FAILPOINTS.hits, so that a test
// knows that it has tried something.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace {

constexpr int kMostRules = 16;

struct Rule {
  char program[64];
  char call[16];
  int error_number;
  int times;
  char path[256];
};

struct Plan {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  struct timespec changed{};
  Rule rules[kMostRules];
  int count = 0;
};
Plan plan;

const char* plan_path() {
  static const char* const path = ::getenv("LONGHAUL_FAILPOINTS");
  return path;
}

// Only bare system calls from here on: the functions around them are our own.
void read_plan() {
  struct stat info{};
  if (::syscall(SYS_newfstatat, AT_FDCWD, plan_path(), &info, 0) != 0) {
    plan.count = 0;
    plan.changed = {};
    return;
  }
  if (info.st_mtim.tv_sec == plan.changed.tv_sec && info.st_mtim.tv_nsec == plan.changed.tv_nsec) {
    return;
  }
  plan.changed = info.st_mtim;
  plan.count = 0;
  static char text[4096];
  const long fd = ::syscall(SYS_openat, AT_FDCWD, plan_path(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  const long size = ::syscall(SYS_read, fd, text, sizeof(text) - 1);
  ::syscall(SYS_close, fd);
  text[size > 0 ? size : 0] = '\0';
  char* rest = nullptr;
  for (char* line = ::strtok_r(text, "\n", &rest); line != nullptr && plan.count < kMostRules;
       line = ::strtok_r(nullptr, "\n", &rest)) {
    Rule& rule = plan.rules[plan.count];
    rule.path[0] = '\0';
    const int found = ::sscanf(line, "%63s %15s %d %d %255s", rule.program, rule.call,
                               &rule.error_number, &rule.times, rule.path);
    if (found >= 4) ++plan.count;
  }
}

// Notes a failure, unless there have been so many: in whichever process.
bool take(const char* call, int times) {
  char path[512];
  char line[128];
  static char before[64 << 10];
  (void)::snprintf(path, sizeof(path), "%s.hits", plan_path());
  const int size = ::snprintf(line, sizeof(line), "%s %s\n", program_invocation_short_name, call);
  const long fd =
      ::syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  ::syscall(SYS_flock, fd, LOCK_EX);
  const long have = ::syscall(SYS_pread64, fd, before, sizeof(before) - 1, 0L);
  before[have > 0 ? have : 0] = '\0';
  int count = 0;
  for (const char* at = ::strstr(before, line); at != nullptr; at = ::strstr(at + size, line)) {
    ++count;
  }
  if (count < times) ::syscall(SYS_write, fd, line, size);
  ::syscall(SYS_close, fd);
  return count < times;
}

// 0: the call is to be made.
int error_for(const char* call, const char* path = nullptr) {
  if (plan_path() == nullptr) return 0;
  const int before = errno;
  ::pthread_mutex_lock(&plan.lock);
  read_plan();
  int error_number = 0;
  for (int i = 0; i < plan.count && error_number == 0; ++i) {
    const Rule& rule = plan.rules[i];
    if (::strcmp(rule.call, call) != 0) continue;
    if (::strcmp(rule.program, program_invocation_short_name) != 0) continue;
    if (rule.path[0] != '\0' && (path == nullptr || ::strstr(path, rule.path) == nullptr)) continue;
    if (take(call, rule.times)) error_number = rule.error_number;
  }
  ::pthread_mutex_unlock(&plan.lock);
  errno = before;
  return error_number;
}

int error_for_file(const char* call, int fd) {
  if (plan_path() == nullptr) return 0;
  struct stat info{};
  if (::syscall(SYS_fstat, fd, &info) != 0 || !S_ISREG(info.st_mode)) return 0;
  char link[32];
  char path[512];
  (void)::snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const long size = ::syscall(SYS_readlink, link, path, sizeof(path) - 1);
  path[size > 0 ? size : 0] = '\0';
  return error_for(call, path);
}

template <typename Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

bool fails(int error_number) {
  if (error_number != 0) errno = error_number;
  return error_number != 0;
}

}  // namespace

#define LONGHAUL_REAL(name) static const auto next = real<decltype(&name)>(#name)

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (fails(error_for("open", path))) return -1;
  return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open(path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (fails(error_for("open", path))) return -1;
  return static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
}
FILE* fopen(const char* path, const char* mode) {
  LONGHAUL_REAL(fopen);
  return fails(error_for("open", path)) ? nullptr : next(path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
  LONGHAUL_REAL(fopen64);
  return fails(error_for("open", path)) ? nullptr : next(path, mode);
}
ssize_t read(int fd, void* data, size_t size) {
  LONGHAUL_REAL(read);
  return fails(error_for_file("read", fd)) ? -1 : next(fd, data, size);
}
ssize_t pread(int fd, void* data, size_t size, off_t at) {
  LONGHAUL_REAL(pread);
  return fails(error_for_file("read", fd)) ? -1 : next(fd, data, size, at);
}
ssize_t pread64(int fd, void* data, size_t size, off64_t at) {
  LONGHAUL_REAL(pread64);
  return fails(error_for_file("read", fd)) ? -1 : next(fd, data, size, at);
}
ssize_t write(int fd, const void* data, size_t size) {
  LONGHAUL_REAL(write);
  return fails(error_for_file("write", fd)) ? -1 : next(fd, data, size);
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t at) {
  LONGHAUL_REAL(pwrite);
  return fails(error_for_file("write", fd)) ? -1 : next(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t at) {
  LONGHAUL_REAL(pwrite64);
  return fails(error_for_file("write", fd)) ? -1 : next(fd, data, size, at);
}
ssize_t writev(int fd, const iovec* parts, int count) {
  LONGHAUL_REAL(writev);
  return fails(error_for_file("write", fd)) ? -1 : next(fd, parts, count);
}
int fsync(int fd) {
  LONGHAUL_REAL(fsync);
  return fails(error_for_file("fsync", fd)) ? -1 : next(fd);
}
int fdatasync(int fd) {
  LONGHAUL_REAL(fdatasync);
  return fails(error_for_file("fsync", fd)) ? -1 : next(fd);
}
int accept(int fd, sockaddr* address, socklen_t* size) {
  LONGHAUL_REAL(accept);
  return fails(error_for("accept")) ? -1 : next(fd, address, size);
}
int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  LONGHAUL_REAL(accept4);
  return fails(error_for("accept")) ? -1 : next(fd, address, size, flags);
}
int pipe(int ends[2]) noexcept {
  LONGHAUL_REAL(pipe);
  return fails(error_for("pipe")) ? -1 : next(ends);
}
int pipe2(int ends[2], int flags) noexcept {
  LONGHAUL_REAL(pipe2);
  return fails(error_for("pipe")) ? -1 : next(ends, flags);
}
// A socket pair is the worker's pipe to a shim.
int socketpair(int domain, int type, int protocol, int ends[2]) noexcept {
  LONGHAUL_REAL(socketpair);
  return fails(error_for("pipe")) ? -1 : next(domain, type, protocol, ends);
}
pid_t fork() noexcept {
  LONGHAUL_REAL(fork);
  return fails(error_for("fork")) ? -1 : next();
}
int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const argv[], char* const envp[]) {
  LONGHAUL_REAL(posix_spawn);
  const int error_number = error_for("fork");
  return error_number != 0 ? error_number : next(pid, path, actions, attributes, argv, envp);
}
void* mmap(void* address, size_t size, int protection, int flags, int fd, off_t at) noexcept {
  LONGHAUL_REAL(mmap);
  // Of files: what the allocator does is not ours to test.
  if (fd >= 0 && fails(error_for_file("mmap", fd))) return MAP_FAILED;
  return next(address, size, protection, flags, fd, at);
}
void* mmap64(void* address, size_t size, int protection, int flags, int fd, off64_t at) noexcept {
  LONGHAUL_REAL(mmap64);
  if (fd >= 0 && fails(error_for_file("mmap", fd))) return MAP_FAILED;
  return next(address, size, protection, flags, fd, at);
}

}  // extern "C"
