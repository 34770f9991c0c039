#include "longhaul/codec/codec_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace longhaul {
namespace {

using testing::HasSubstr;

TEST(CodecSpecTest, EveryNameReadsBackAsItself) {
  ASSERT_THAT(CodecSpec::names(), testing::ElementsAre("none", "zstd"));
  for (const std::string& name : CodecSpec::names()) {
    const Result<CodecSpec> spec = CodecSpec::parse(name);
    ASSERT_TRUE(spec) << name;
    EXPECT_EQ(spec->str(), name);
  }
  EXPECT_EQ(CodecSpec::parse("zstd")->kind, CodecSpec::Kind::kZstd);
}

TEST(CodecSpecTest, AnUnknownCodecListsAllAndSuggestsTheNearest) {
  for (const char* wrong : {"zst", "Zstd", "zstd ", "zsdt"}) {
    const Result<CodecSpec> spec = CodecSpec::parse(wrong);
    ASSERT_FALSE(spec) << wrong;
    EXPECT_EQ(spec.failure().kind, ErrorKind::kInvalid);
    EXPECT_THAT(spec.failure().message, HasSubstr("did you mean 'zstd'?"));
    EXPECT_THAT(spec.failure().message, HasSubstr("codecs: none, zstd"));
  }
  EXPECT_THAT(CodecSpec::parse("int8:block=1024").failure().message,
              testing::Not(HasSubstr("did you mean")));
  EXPECT_FALSE(CodecSpec::parse(""));
}

}  // namespace
}  // namespace longhaul
