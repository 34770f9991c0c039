#include "cluster/jobs/user_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cluster/state_driver.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;

TEST(UserText, OrdinaryNamesOfAllScriptsAreTaken) {
  for (const char* name :
       {"", "train", "llama-7b v2",
        "gr\xc3\xb6\xc3\x9f"
        "er",
        "\xe6\xa8\xa1\xe5\x9e\x8b", "\xf0\x9f\x9a\x80", "j", "j1a", "jobs", "lasting", "a.b/c:d"}) {
    EXPECT_FALSE(why_no_job_name(name)) << name;
  }
  EXPECT_FALSE(why_no_job_name(std::string(kMaxNameBytes, 'x')));
}

TEST(UserText, NamesThatAreTakenForSomethingElseAreRefused) {
  for (const char* name : {"last", "j1", "j0", "j123456789012345678901234567890", "-d", "--name"}) {
    EXPECT_TRUE(why_no_job_name(name)) << name;
  }
}

TEST(UserText, NamesThatUpsetATerminalOrAMessageAreRefused) {
  const std::vector<std::string> bad = {"a\nb",
                                        "a\rb",
                                        "\x1b[31mred",
                                        "a\tb",
                                        "\x7f",
                                        "\xc2\x85",
                                        "\xc2\x9b"
                                        "31m",
                                        "a\xe2\x80\xa8"
                                        "b",
                                        "\xe2\x80\xae"
                                        "abc",
                                        "\xe2\x80\x8b",
                                        "\xef\xbb\xbfx",
                                        "\xc3",
                                        "\xff",
                                        "\xc0\xaf",
                                        "\xe0\x80\xaf",
                                        "\xed\xa0\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xf0\x80\x80\x80",
                                        " a",
                                        "a ",
                                        std::string(kMaxNameBytes + 1, 'x'),
                                        std::string(size_t{16} << 20, 'x'),
                                        std::string("a\0b", 3)};
  for (const std::string& name : bad) {
    const auto why = why_no_job_name(name);
    ASSERT_TRUE(why) << ::testing::PrintToString(name.substr(0, 20));
    EXPECT_EQ(why->kind, ErrorKind::kInvalid);
    // What is said of it is fit to be shown, and short.
    EXPECT_LT(why->message.size(), 300u);
    EXPECT_EQ(why->message.find('\x1b'), std::string::npos);
  }
}

JobSpec spec_of(std::vector<std::string> command) {
  JobSpec spec;
  spec.command = std::move(command);
  spec.ranks = 1;
  return spec;
}

TEST(UserText, NulBytesAreRefusedWhereverAProgramWouldLoseThem) {
  const std::string nul("a\0b", 3);
  EXPECT_THAT(why_unusable_text(spec_of({nul}))->message, HasSubstr("the program: byte 2 is NUL"));
  EXPECT_THAT(why_unusable_text(spec_of({"x", "y", nul}))->message, HasSubstr("argument 2"));
  JobSpec spec = spec_of({"x"});
  spec.env = {{"A", nul}};
  EXPECT_THAT(why_unusable_text(spec)->message, HasSubstr("the variable A"));
  spec.env = {{nul, "x"}};
  EXPECT_TRUE(why_unusable_text(spec));
  spec.env = {{"A=B", "x"}};
  EXPECT_TRUE(why_unusable_text(spec));
  spec.env = {{"", "x"}};
  EXPECT_TRUE(why_unusable_text(spec));
  spec.env.clear();
  spec.working_directory = nul;
  EXPECT_THAT(why_unusable_text(spec)->message, HasSubstr("the working folder"));
  spec.working_directory = "/tmp";
  EXPECT_FALSE(why_unusable_text(spec));
}

TEST(UserText, WhatLinuxGivesNoProgramIsRefusedWhereItIsSubmitted) {
  EXPECT_FALSE(why_unusable_text(spec_of({"x", std::string(kMaxArgumentBytes, 'a')})));
  EXPECT_TRUE(why_unusable_text(spec_of({"x", std::string(kMaxArgumentBytes + 1, 'a')})));
  JobSpec spec = spec_of({"x"});
  spec.env["A"] = std::string(kMaxArgumentBytes - 2, 'a');
  EXPECT_FALSE(why_unusable_text(spec));
  spec.env["A"] += "a";
  EXPECT_TRUE(why_unusable_text(spec));
  spec.env.clear();
  spec.command.assign(60, std::string(kMaxArgumentBytes, 'a'));
  EXPECT_THAT(why_unusable_text(spec)->message, HasSubstr("at most"));
}

TEST(UserText, TheStateRefusesThemToo) {
  testing::StateDriver on;
  JobSpec spec = spec_of({"x"});
  spec.name = "j7";
  EXPECT_EQ(on.submit(spec).failure().kind, ErrorKind::kInvalid);
  spec.name = "a\x1b]0;title\x07";
  EXPECT_EQ(on.submit(spec).failure().kind, ErrorKind::kInvalid);
  spec.name = "";
  EXPECT_FALSE(on.state.submit(spec, std::string(1000, 'k'), on.now()));
  EXPECT_TRUE(on.state.list(true).empty());
}

}  // namespace
}  // namespace longhaul
