// Real last lines of real programs.
#include "cluster/failure/exit_evidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

TEST(ExitEvidence, ASuccessSaysNothing) {
  EXPECT_EQ(read_last_output("Traceback (most recent call last):\nValueError: handled\n", 0, 0),
            ExitEvidence());
  EXPECT_EQ(read_last_output("", 3, 0), ExitEvidence());
  EXPECT_EQ(read_last_output("\n\n\n", 1, 0), ExitEvidence());
}

TEST(ExitEvidence, APythonTraceback) {
  const char* text =
      "warming up\n"
      "Traceback (most recent call last):\n"
      "  File \"train.py\", line 12, in <module>\n"
      "    main()\n"
      "  File \"train.py\", line 7, in main\n"
      "    raise ValueError(\"bad shape: [3] for [4]\")\n"
      "ValueError: bad shape: [3] for [4]\n";
  EXPECT_EQ(read_last_output(text, 1, 0).exception, "ValueError: bad shape: [3] for [4]");
}

TEST(ExitEvidence, OfTwoTracebacksTheLastCounts) {
  const char* text =
      "Traceback (most recent call last):\n"
      "  File \"a.py\", line 1, in <module>\n"
      "KeyError: 'first'\n"
      "\n"
      "During handling of the above exception, another exception occurred:\n"
      "\n"
      "Traceback (most recent call last):\n"
      "  File \"a.py\", line 3, in <module>\n"
      "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB.\n"
      "more that a library prints at exit\n";
  const ExitEvidence evidence = read_last_output(text, 1, 0);
  EXPECT_EQ(evidence.exception,
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB.");
  EXPECT_TRUE(says_out_of_memory(evidence.exception));
}

std::string with_prefix(const std::string& prefix, const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += prefix + line + "\n";
  return text;
}

const std::vector<std::string> kTraceback = {
    "Traceback (most recent call last):", "  File \"train.py\", line 7, in main",
    "    raise ValueError(\"bad shape\")", "ValueError: bad shape"};

// PyTorch's, once a process group is there; torchrun's; mpirun's; srun's; our own.
TEST(ExitEvidence, ATracebackBehindAPrefix) {
  for (const char* prefix : {"[rank1]: ", "[rank12]:", "[default1]:", "[1,1]<stderr>: ", "1: ",
                             "(worker pid=77) 3> ", "    | "}) {
    EXPECT_EQ(read_last_output(with_prefix(prefix, kTraceback), 1, 0).exception,
              "ValueError: bad shape")
        << prefix;
  }
}

TEST(ExitEvidence, ATracebackBehindAPrefixWithATime) {
  std::string text;
  for (size_t i = 0; i < kTraceback.size(); ++i) {
    text += "2026-01-31 12:00:0" + std::to_string(i) + ",123 [rank1]: " + kTraceback[i] + "\n";
  }
  EXPECT_EQ(read_last_output(text, 1, 0).exception, "ValueError: bad shape");
  EXPECT_EQ(read_last_output("ERROR:root:" + with_prefix("", kTraceback), 1, 0).exception,
            "ValueError: bad shape")
      << "before the first line alone";
}

TEST(ExitEvidence, OthersLinesBetweenThoseWithAPrefixAreNotIts) {
  std::string text;
  for (const std::string& line : kTraceback) {
    text +=
        "[rank1]: " + line + "\nwarning: somebody else\n[rank2]: RuntimeError: another rank's\n";
  }
  text += "[rank1]:\n[rank1]:[W1130 05:10:11.123 ProcessGroup.cpp:1] destroy it\n";
  EXPECT_EQ(read_last_output(text, 1, 0).exception, "ValueError: bad shape");
}

TEST(ExitEvidence, WordsOfATracebackInsideALineAreNone) {
  std::string text = with_prefix("", kTraceback);
  text += "log(\"see: Traceback (most recent call last):\")\nOther: line\n";
  EXPECT_EQ(read_last_output(text, 1, 0).exception, "ValueError: bad shape");
}

TEST(ExitEvidence, ColoursAreNoText) {
  EXPECT_EQ(read_last_output("\x1b[1;35mTraceback (most recent call last):\x1b[0m\n"
                             "  File \x1b[35m\"a.py\"\x1b[0m, line 1\n"
                             "\x1b[1;35mValueError\x1b[0m: \x1b[35mbad shape\x1b[0m\r\n",
                             1, 0)
                .exception,
            "ValueError: bad shape");
}

TEST(ExitEvidence, AClassInsideAFunctionAndOneInAnotherScript) {
  for (const std::string name : {"__main__.main.<locals>.BadShape", "Größenfehler"}) {
    EXPECT_EQ(
        read_last_output("Traceback (most recent call last):\n" + name + ": 3\n", 1, 0).exception,
        name + ": 3");
  }
}

TEST(ExitEvidence, OtherLastWordsBehindAPrefix) {
  EXPECT_EQ(read_last_output(
                with_prefix("[rank1]: ",
                            {"terminate called after throwing an instance of 'std::runtime_error'",
                             "  what():  no shard 12"}),
                134, SIGABRT)
                .exception,
            "std::runtime_error: no shard 12");
  EXPECT_THAT(read_last_output(with_prefix("[default1]:", {"longhaul: crashed with SIGSEGV",
                                                           "longhaul:   #0 0x55d0c9a3 main"}),
                               139, SIGSEGV)
                  .backtrace,
              ElementsAre("#0 0x55d0c9a3 main"));
  EXPECT_THAT(
      read_last_output(with_prefix("[rank1]: ", {"Fatal Python error: Segmentation fault", "",
                                                 "Current thread 0x7f00 (most recent call first):",
                                                 "  File \"train.py\", line 3 in <module>", ""}),
                       139, SIGSEGV)
          .backtrace,
      ElementsAre("File \"train.py\", line 3 in <module>"));
}

TEST(ExitEvidence, ATracebackThatWasCutShort) {
  EXPECT_EQ(read_last_output("Traceback (most recent call last):\n  File \"a.py\"", 1, 0).exception,
            "");
  EXPECT_EQ(
      read_last_output("Traceback (most recent call last):\nnot a name at all\n", 1, 0).exception,
      "");
}

TEST(ExitEvidence, AnUncaughtExceptionInCpp) {
  const char* text =
      "terminate called after throwing an instance of 'std::runtime_error'\n"
      "  what():  no shard 12\n";
  EXPECT_EQ(read_last_output(text, 134, SIGABRT).exception, "std::runtime_error: no shard 12");
  EXPECT_EQ(read_last_output("terminate called after throwing an instance of 'int'\n", 134, SIGABRT)
                .exception,
            "int");
  EXPECT_TRUE(says_out_of_memory(
      read_last_output("terminate called after throwing an instance of 'std::bad_alloc'\n"
                       "  what():  std::bad_alloc\n",
                       134, SIGABRT)
          .exception));
}

TEST(ExitEvidence, AnotherSignalIsNotTheExceptionThatWasPrintedBefore) {
  EXPECT_EQ(
      read_last_output("Traceback (most recent call last):\nValueError: handled\n", 137, SIGKILL),
      ExitEvidence());
}

TEST(ExitEvidence, AMissingLibrary) {
  EXPECT_EQ(read_last_output("./train: error while loading shared libraries: libfoo.so.1: cannot "
                             "open shared object file: No such file or directory\n",
                             127, 0)
                .cannot_run,
            "missing library libfoo.so.1");
  EXPECT_EQ(read_last_output("Traceback (most recent call last):\n"
                             "  File \"train.py\", line 1, in <module>\n"
                             "OSError: libcudart.so.13: cannot open shared object file: No such "
                             "file or directory\n",
                             1, 0)
                .cannot_run,
            "missing library libcudart.so.13");
  EXPECT_EQ(read_last_output("libfast.so: cannot open shared object file, using the slow one\n"
                             "bad input\n",
                             3, 0)
                .cannot_run,
            "")
      << "a warning only";
}

TEST(ExitEvidence, AMissingProgramInAScript) {
  EXPECT_EQ(read_last_output("sh: 1: train: not found\n", 127, 0).cannot_run,
            "sh: 1: train: not found");
  EXPECT_EQ(read_last_output("sh: 1: ./train: Permission denied\n", 126, 0).cannot_run,
            "sh: 1: ./train: Permission denied");
  EXPECT_EQ(read_last_output("user not found\n", 1, 0).cannot_run, "");
  EXPECT_EQ(read_last_output("a code of its own\n", 127, 0).cannot_run, "");
}

TEST(ExitEvidence, OurCrashHandlersBacktraceWithNamesAsPeopleWriteThem) {
  const char* text =
      "loss 2.5\n"
      "longhaul: crashed with SIGSEGV at address 0x0\n"
      "longhaul:   #0 0x55d0c9a3 _Z10train_stepPi at train.cc:42\n"
      "a line of another thread\n"
      "longhaul:   #1 0x55d0c9b0 main at train.cc:50\n";
  EXPECT_THAT(read_last_output(text, 139, SIGSEGV).backtrace,
              ElementsAre("#0 0x55d0c9a3 train_step(int*) at train.cc:42",
                          "#1 0x55d0c9b0 main at train.cc:50"));
}

TEST(ExitEvidence, PythonsFaultHandler) {
  const char* text =
      "Fatal Python error: Segmentation fault\n"
      "\n"
      "Current thread 0x00007f8f0e7c4740 (most recent call first):\n"
      "  File \"/usr/lib/python3.11/ctypes/__init__.py\", line 519 in string_at\n"
      "  File \"train.py\", line 3 in <module>\n"
      "\n"
      "Extension modules: numpy.core (total: 1)\n";
  EXPECT_THAT(read_last_output(text, 139, SIGSEGV).backtrace,
              ElementsAre(StartsWith("File \"/usr/lib/python3.11/ctypes"),
                          "File \"train.py\", line 3 in <module>"));
}

TEST(ExitEvidence, LongLinesAndManyFramesAreCut) {
  std::string text = "longhaul: crashed with SIGSEGV\n";
  for (int i = 0; i < 1000; ++i) text += "longhaul:   #1 " + std::string(5000, 'x') + "\n";
  const ExitEvidence evidence = read_last_output(text, 139, SIGSEGV);
  EXPECT_LE(evidence.backtrace.size(), 32U);
  for (const std::string& frame : evidence.backtrace) EXPECT_LE(frame.size(), 500U);
}

TEST(ExitEvidence, PeersThatFailedAreToldFromFaultsOfItsOwn) {
  EXPECT_TRUE(says_peer_failed("RuntimeError: [pair.cc:534] Connection closed by peer [::1]:1234"));
  EXPECT_TRUE(says_peer_failed("torch.distributed.DistStoreError: wait timeout after 300000ms"));
  EXPECT_FALSE(says_peer_failed("ValueError: bad shape"));
  EXPECT_FALSE(says_out_of_memory("RuntimeError: Connection closed by peer"));
}

}  // namespace
}  // namespace longhaul
