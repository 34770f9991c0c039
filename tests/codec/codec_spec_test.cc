#include "longhaul/codec/codec_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "longhaul/base/strings.h"
#include "tests/codec/sample_data.h"

namespace longhaul {
namespace {

using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::Not;

std::string refusal(std::string_view text) {
  const Result<CodecSpec> spec = CodecSpec::parse(text);
  if (spec) return "accepted";
  EXPECT_EQ(spec.failure().kind, ErrorKind::kInvalid);
  return spec.failure().message;
}

TEST(CodecSpecTest, EveryNameReadsBackAsItselfWithItsDefaults) {
  // What users have in their scripts stays; a new codec may stand anywhere among these.
  ASSERT_THAT(CodecSpec::names(),
              IsSupersetOf({"none", "zstd", "lossless", "bf16", "fp16", "int8", "rms", "auto"}));
  for (const std::string& name : CodecSpec::names()) {
    const Result<CodecSpec> spec = CodecSpec::parse(name);
    ASSERT_TRUE(spec) << name;
    EXPECT_TRUE(spec->valid()) << name;
    EXPECT_EQ(*spec, CodecSpec::of(spec->kind));
    EXPECT_EQ(*CodecSpec::parse(spec->str()), *spec) << spec->str();
  }
  EXPECT_EQ(CodecSpec::parse("zstd")->str(), "zstd");
  EXPECT_EQ(CodecSpec::parse("int8")->str(), "int8:block=1024");
  EXPECT_EQ(CodecSpec::parse("rms")->str(), "rms:step=0.5,block=256");
  EXPECT_EQ(CodecSpec::parse("auto")->str(), "auto:error=0.2");
  EXPECT_FALSE(CodecSpec::parse("auto")->lossless());
  EXPECT_THAT(refusal("auto:error=2"), HasSubstr("error=2 is not a number from 0 to 1"));
}

TEST(CodecSpecTest, EverySpecReadsBackAsItself) {
  for (const CodecSpec& spec : testing::all_specs()) {
    EXPECT_TRUE(spec.valid()) << spec.str();
    const Result<CodecSpec> again = CodecSpec::parse(spec.str());
    ASSERT_TRUE(again) << again.failure().message;
    EXPECT_EQ(*again, spec) << spec.str();
  }
}

TEST(CodecSpecTest, OptionsAreReadInAnyOrder) {
  const Result<CodecSpec> spec =
      CodecSpec::parse("rms:rounding=stochastic,block=512,stage=huffman,step=0.125");
  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->kind, CodecSpec::Kind::kRms);
  EXPECT_EQ(spec->block, 512U);
  EXPECT_EQ(spec->step, 0.125F);
  EXPECT_EQ(spec->stage, CodecSpec::Stage::kHuffman);
  EXPECT_EQ(spec->rounding, CodecSpec::Rounding::kStochastic);
  EXPECT_EQ(spec->str(), "rms:step=0.125,block=512,stage=huffman,rounding=stochastic");
}

TEST(CodecSpecTest, TheSecondLegMayHaveAStepOfItsOwn) {
  const Result<CodecSpec> spec = CodecSpec::parse("rms:step=1,result=0.5");
  ASSERT_TRUE(spec);
  EXPECT_EQ(spec->str(), "rms:step=1,result=0.5,block=256");
  EXPECT_EQ(*CodecSpec::parse(spec->str()), *spec);
  EXPECT_EQ(spec->second_leg(), *CodecSpec::parse("rms:step=0.5"));
  EXPECT_EQ(*CodecSpec::parse("rms:step=1,result=1"), *CodecSpec::parse("rms:step=1"));
  EXPECT_EQ(CodecSpec::of(CodecSpec::Kind::kInt8).second_leg(),
            CodecSpec::of(CodecSpec::Kind::kInt8));
  EXPECT_THAT(refusal("rms:result=9"), HasSubstr("result=9 is not a number from 0.03125 to 8"));
  EXPECT_THAT(refusal("int8:result=1"), HasSubstr("no option 'result'"));
}

TEST(CodecSpecTest, OnlyExactCodecsSayThatTheyAre) {
  for (const char* text : {"none", "zstd", "lossless"}) {
    EXPECT_TRUE(CodecSpec::parse(text)->lossless()) << text;
  }
  for (const char* text : {"bf16", "fp16", "int8", "rms:step=0.03125"}) {
    EXPECT_FALSE(CodecSpec::parse(text)->lossless()) << text;
  }
}

TEST(CodecSpecTest, AnUnknownCodecListsAllAndSuggestsTheNearest) {
  for (const char* wrong : {"zst", "Zstd", "zstd ", "zsdt"}) {
    EXPECT_THAT(refusal(wrong), HasSubstr("did you mean 'zstd'?")) << wrong;
    EXPECT_THAT(refusal(wrong),
                HasSubstr(str_cat("(codecs: ", join(CodecSpec::names(), ", "), ")")));
  }
  EXPECT_THAT(refusal("powersgd:rank=4"), HasSubstr("unknown codec 'powersgd'"));
  EXPECT_THAT(refusal("powersgd:rank=4"), Not(HasSubstr("did you mean")));
  EXPECT_THAT(refusal(""), HasSubstr("unknown codec ''"));
}

TEST(CodecSpecTest, AValueOutOfRangeIsToldTheRange) {
  for (const char* wrong : {"9", "0", "-1", "0.03", "nan", "inf", "1e9", "0.5x", ""}) {
    EXPECT_THAT(refusal(str_cat("rms:step=", wrong)), HasSubstr("from 0.03125 to 8")) << wrong;
  }
  for (const char* wrong : {"0", "32", "100", "8192", "-64", "64.0", "99999999999999", "", " 64"}) {
    EXPECT_THAT(refusal(str_cat("int8:block=", wrong)),
                HasSubstr("not a power of two from 64 to 4096"))
        << wrong;
  }
}

TEST(CodecSpecTest, AnUnknownOptionIsToldTheOptionsAndAnUnknownWordTheWords) {
  EXPECT_THAT(refusal("rms:stpe=1"), HasSubstr("did you mean 'step'?"));
  EXPECT_THAT(refusal("rms:stpe=1"), HasSubstr("options: step, result, block, stage, rounding"));
  EXPECT_THAT(refusal("int8:step=1"), HasSubstr("options: block, stage, rounding"));
  EXPECT_THAT(refusal("fp16:rounding=stochastic"), HasSubstr("options: stage"));
  EXPECT_THAT(refusal("zstd:level=3"), HasSubstr("has no options"));
  EXPECT_THAT(refusal("int8:stage=hufman"), HasSubstr("did you mean 'huffman'?"));
  EXPECT_THAT(refusal("int8:stage=lz4"), HasSubstr("stage: packed, rice, huffman"));
  EXPECT_THAT(refusal("int8:rounding=up"), HasSubstr("rounding: nearest, stochastic"));
}

TEST(CodecSpecTest, TextThatIsNoListOfOptionsIsRefused) {
  for (const char* wrong : {"rms:", "rms:step", "rms:step=1,", "rms:,step=1", "rms:=1"}) {
    EXPECT_THAT(refusal(wrong), Not("accepted")) << wrong;
  }
  EXPECT_THAT(refusal("rms:step=1,step=2"), HasSubstr("given twice"));
}

TEST(CodecSpecTest, ASpecThatParseCannotMakeIsNotValid) {
  CodecSpec spec = CodecSpec::of(CodecSpec::Kind::kRms);
  EXPECT_TRUE(spec.valid());
  spec.step = 0;
  EXPECT_FALSE(spec.valid());
  EXPECT_FALSE((CodecSpec{CodecSpec::Kind::kInt8}.valid()));
  CodecSpec exact = CodecSpec::of(CodecSpec::Kind::kZstd);
  exact.block = 64;
  EXPECT_FALSE(exact.valid());
  EXPECT_FALSE((CodecSpec{static_cast<CodecSpec::Kind>(200)}.valid()));
}

}  // namespace
}  // namespace longhaul
