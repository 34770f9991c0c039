// A field that a conversion forgets is lost in silence. So every field of every message that has a
// value of ours is filled by reflection, made that value and a message again, and must be there;
// and every enumerator that the message knows. What is meant not to come back is named, with the
// reason.
#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>
#include <string>

#include "agent/client/coordinator_proto.h"
#include "agent/client/shard_proto.h"
#include "control/convert/event_proto.h"
#include "control/convert/job_proto.h"
#include "control/convert/worker_proto.h"
#include "control/database/tables/jobs.h"
#include "control/database/tables/workers.h"
#include "longhaul/base/strings.h"
#include "longhaul/v1/record.pb.h"

namespace longhaul {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using google::protobuf::util::MessageDifferencer;

// The full names of fields that are left as they are.
using Fields = std::set<std::string>;

// Fills messages so that no two fields have the same value, and none its default.
class Filler {
 public:
  // `round` chooses the enumerators: in as many rounds as an enumeration has, all of them.
  Filler(int round, Fields left_out) : round_(round), left_out_(std::move(left_out)) {}

  void fill(Message* message) {
    for (int i = 0; i < message->GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor* field = message->GetDescriptor()->field(i);
      if (left_out_.contains(field->full_name())) continue;
      const int times = field->is_repeated() ? 2 : 1;
      for (int time = 0; time < times; ++time) fill(message, field);
    }
  }

 private:
  void fill(Message* message, const FieldDescriptor* field) {
    const Reflection& to = *message->GetReflection();
    const bool many = field->is_repeated();
    const int next = ++last_;
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return fill(many ? to.AddMessage(message, field) : to.MutableMessage(message, field));
      case FieldDescriptor::CPPTYPE_STRING: {
        const std::string text = word(field, next);
        return many ? to.AddString(message, field, text) : to.SetString(message, field, text);
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const auto* all = field->enum_type();
        // The first is "unspecified".
        const auto* one = all->value(1 + (round_ + next) % (all->value_count() - 1));
        return many ? to.AddEnum(message, field, one) : to.SetEnum(message, field, one);
      }
      case FieldDescriptor::CPPTYPE_INT32:
        return many ? to.AddInt32(message, field, next) : to.SetInt32(message, field, next);
      case FieldDescriptor::CPPTYPE_INT64:
        return many ? to.AddInt64(message, field, next) : to.SetInt64(message, field, next);
      case FieldDescriptor::CPPTYPE_UINT32:
        return many ? to.AddUInt32(message, field, static_cast<uint32_t>(next))
                    : to.SetUInt32(message, field, static_cast<uint32_t>(next));
      case FieldDescriptor::CPPTYPE_UINT64:
        return many ? to.AddUInt64(message, field, static_cast<uint64_t>(next))
                    : to.SetUInt64(message, field, static_cast<uint64_t>(next));
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return to.SetDouble(message, field, next + 0.5);
      case FieldDescriptor::CPPTYPE_BOOL:
        return to.SetBool(message, field, true);
      default:
        FAIL() << field->full_name() << ": of a type that nobody has used so far";
    }
  }
  static std::string word(const FieldDescriptor* field, int number) {
    // An ErrorKind's name; another one reads as another kind.
    if (field->full_name() == "longhaul.v1.Fault.kind") return "deadline";
    return str_cat(field->name(), "-", number);
  }

  const int round_;
  const Fields left_out_;
  int last_ = 0;
};

// As many rounds as the largest enumeration has enumerators.
constexpr int kRounds = 40;

template <typename Proto>
void expect_round_trip(const std::function<Proto(const Proto&)>& there_and_back,
                       const Fields& left_out = {}) {
  for (int round = 0; round < kRounds; ++round) {
    Proto message;
    Filler(round, left_out).fill(&message);
    const Proto back = there_and_back(message);
    std::string difference;
    MessageDifferencer differencer;
    differencer.ReportDifferencesToString(&difference);
    ASSERT_TRUE(differencer.Compare(message, back))
        << Proto::descriptor()->full_name() << ", round " << round << ":\n"
        << difference;
  }
}

template <typename Proto>
void expect_converted(const Fields& left_out = {}) {
  expect_round_trip<Proto>([](const Proto& proto) { return to_proto(from_proto(proto)); },
                           left_out);
}

TEST(RoundTrip, WhatAJobIs) {
  expect_converted<v1::JobSpec>();
  expect_converted<v1::Lease>();
  expect_converted<v1::FailureReport>();
  expect_converted<v1::StopOrigin>();
}

// The exit of a rank is read where it has exited, and only there.
const Fields kOfExitedRanks = {"longhaul.v1.RankStatus.exit_code", "longhaul.v1.RankStatus.signal"};

TEST(RoundTrip, HowAJobStands) {
  expect_converted<v1::RankStatus>(kOfExitedRanks);
  expect_converted<v1::JobStatus>(kOfExitedRanks);
  v1::RankStatus exited;
  exited.set_state(v1::RANK_STATE_EXITED);
  exited.set_exit_code(137);
  exited.set_signal(9);
  EXPECT_TRUE(MessageDifferencer::Equals(to_proto(from_proto(exited)), exited));
}

TEST(RoundTrip, WhatHappened) {
  expect_converted<v1::Event>();
  expect_converted<v1::ExplainJobReply>();
}

TEST(RoundTrip, WhatRanksSay) {
  expect_converted<v1::Progress>();
  expect_converted<v1::Fault>();
  expect_converted<v1::RankExited>();
  expect_converted<v1::ShardPlan>();
  expect_converted<v1::ShardExchange>();
  expect_converted<v1::ShardAnswer>();
}

// What a worker says of the moment it registers is not kept, nor made again.
const Fields kOfTheMoment = {"longhaul.v1.Register.leases", "longhaul.v1.Inventory.output_wanted"};

TEST(RoundTrip, WhoWorkersAre) {
  expect_converted<v1::Register>(kOfTheMoment);
}

TEST(RoundTrip, WhatIsKeptOfAJob) {
  Fields left_out = kOfExitedRanks;
  left_out.insert({
      "longhaul.v1.JobStatus.ranks",      // they are records, beside it
      "longhaul.v1.RankStatus.progress",  // the next report says it better
  });
  expect_round_trip<v1::JobRecord>(
      [](const v1::JobRecord& proto) {
        v1::JobRecord back;
        const Result<JobRecord> record = job_record_from(proto.SerializeAsString());
        EXPECT_TRUE(record) << record.failure().message;
        EXPECT_TRUE(back.ParseFromString(to_bytes(*record)));
        // A rank's exit is told twice: in its record, and for people in its status.
        for (v1::RankRecord& rank : *back.mutable_ranks()) {
          rank.mutable_status()->clear_exit_code();
          rank.mutable_status()->clear_signal();
        }
        return back;
      },
      left_out);
}

TEST(RoundTrip, WhatIsKeptOfAWorker) {
  Fields left_out = kOfTheMoment;
  left_out.insert("longhaul.v1.Register.inventory");  // of the moment, too
  expect_round_trip<v1::WorkerRecord>(
      [](const v1::WorkerRecord& proto) {
        v1::WorkerRecord back;
        EXPECT_TRUE(back.ParseFromString(
            to_bytes(worker_record_from(proto.SerializeAsString()).value_or_throw())));
        return back;
      },
      left_out);
}

// What nobody has said is the harmless one, and not the first that comes.
TEST(RoundTrip, WhatWeDoNotKnowIsHarmless) {
  const auto unknown = [](auto proto) { return static_cast<decltype(proto)>(9999); };
  EXPECT_EQ(from_proto(unknown(v1::JOB_STATE_FAILED)), JobState::kPending);
  EXPECT_EQ(from_proto(unknown(v1::FAILURE_CLASS_HANG)), FailureClass::kExitCode);
  EXPECT_EQ(from_proto(unknown(v1::NODE_STATE_READY)), WorkerState::kUnreachable);
  v1::Event event;
  event.set_kind(unknown(v1::EVENT_KIND_JOB_ENDED));
  EXPECT_EQ(from_proto(event).kind, EventKind::kOther);
  v1::StoreCall call;
  call.mutable_request()->set_operation(unknown(v1::StoreRequest::SET));
  EXPECT_FALSE(from_proto(call));
}

}  // namespace
}  // namespace longhaul
