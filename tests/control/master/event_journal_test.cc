// What readers of the journal and of a job's output are given, and when they are done.
#include "control/master/core/event_journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/convert/event_proto.h"

namespace longhaul {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::Event event(uint64_t number, const std::string& job, const std::string& worker = "",
                v1::EventKind kind = v1::EVENT_KIND_JOB_STARTED) {
  v1::Event made;
  made.set_number(number);
  made.set_unix_ms(1000 * number);
  made.set_kind(kind);
  made.set_job_id(job);
  made.set_worker_id(worker);
  return made;
}

std::vector<uint64_t> read(const EventJournal& journal, EventJournal::Cursor* cursor,
                           EventJournal::Next* end = nullptr) {
  std::vector<uint64_t> numbers;
  v1::Event next;
  EventJournal::Next what = journal.next(cursor, &next);
  for (; what == EventJournal::Next::kEvent; what = journal.next(cursor, &next)) {
    numbers.push_back(next.number());
  }
  if (end != nullptr) *end = what;
  return numbers;
}

EventJournal::Cursor about(const std::string& job, const std::string& worker = "",
                           bool follow = false) {
  EventJournal::Cursor cursor;
  cursor.job = job;
  cursor.worker = worker;
  cursor.follow = follow;
  return cursor;
}

EventJournal::Cursor from(uint64_t since_unix_ms, uint64_t after) {
  EventJournal::Cursor cursor;
  cursor.since_unix_ms = since_unix_ms;
  cursor.after = after;
  return cursor;
}

std::vector<uint64_t> read(const EventJournal& journal, const EventJournal::Cursor& wanted) {
  EventJournal::Cursor cursor = journal.start(wanted);
  return read(journal, &cursor);
}

TEST(EventJournal, KeepsTheLastAndGoesOnCounting) {
  EventJournal journal(3, {event(4, "j1"), event(5, "j1"), event(6, "j2"), event(7, "j1")});
  EXPECT_THAT(read(journal, about("")), ElementsAre(5, 6, 7));
  EXPECT_EQ(journal.next_number(), 8U);
  EXPECT_EQ(journal.first_kept(8), 6U);
  EXPECT_EQ(journal.first_kept(2), 1U);
  journal.publish({event(8, "")});
  EXPECT_THAT(read(journal, about("")), ElementsAre(6, 7, 8));
  EXPECT_FALSE(journal.knows_job("j3"));
  EXPECT_TRUE(journal.knows_job("j2"));
}

TEST(EventJournal, FiltersByJobWorkerTimeAndNumber) {
  const EventJournal journal(
      9, {event(1, "j1"), event(2, "", "gpu-a"), event(3, "j2", "gpu-a"), event(4, "j1", "gpu-b")});
  EXPECT_THAT(read(journal, about("j1")), ElementsAre(1, 4));
  EXPECT_THAT(read(journal, about("", "gpu-a")), ElementsAre(2, 3));
  EXPECT_THAT(read(journal, about("j2", "gpu-b")), IsEmpty());
  EXPECT_THAT(read(journal, from(3000, 0)), ElementsAre(3, 4));
  EXPECT_THAT(read(journal, from(0, 3)), ElementsAre(4));
  EXPECT_THAT(read(journal, from(0, 99)), ElementsAre(1, 2, 3, 4)) << "of another master";
}

TEST(EventJournal, WhoFollowsAJobIsDoneWithItsEnd) {
  EventJournal journal(9, {event(1, "j1")});
  EventJournal::Cursor cursor = journal.start(about("j1", "", /*follow=*/true));
  EventJournal::Next end = EventJournal::Next::kEnd;
  EXPECT_THAT(read(journal, &cursor, &end), ElementsAre(1));
  EXPECT_EQ(end, EventJournal::Next::kNothingYet);
  journal.publish({event(2, "j2", "", v1::EVENT_KIND_JOB_ENDED), event(3, "j1")});
  EXPECT_THAT(read(journal, &cursor, &end), ElementsAre(3));
  EXPECT_EQ(end, EventJournal::Next::kNothingYet);
  journal.publish({event(4, "j1", "", v1::EVENT_KIND_JOB_ENDED)});
  EXPECT_THAT(read(journal, &cursor, &end), ElementsAre(4));
  EXPECT_EQ(end, EventJournal::Next::kEnd);
}

// --- A job's output ------------------------------------------------------------------------------

v1::Output piece(uint64_t generation, uint64_t offset, uint64_t unix_ms, const std::string& data) {
  v1::Output made;
  made.set_generation(generation);
  made.set_offset(offset);
  made.set_unix_ms(unix_ms);
  made.set_data(data);
  return made;
}

std::string output_of(const JobFeed& feed, JobFeed::Cursor cursor, JobFeed::Next* end = nullptr) {
  std::string text;
  v1::WatchJobEvent event;
  JobFeed::Next what = feed.next(&cursor, &event);
  for (; what == JobFeed::Next::kEvent; what = feed.next(&cursor, &event)) {
    text += event.output().data();
    event.Clear();
  }
  if (end != nullptr) *end = what;
  return text;
}

TEST(JobFeed, OfOneAttemptAndNoLongerThanItLasts) {
  JobFeed feed(size_t{1} << 20);
  feed.append(piece(1, 0, 10, "first\n"));
  feed.append(piece(2, 0, 20, "second\n"));
  v1::JobStatus status;
  status.set_generation(2);
  feed.publish(status, /*ended=*/false);
  JobFeed::Cursor cursor = feed.start(true, true, /*follow=*/true, {});
  JobFeed::Next end = JobFeed::Next::kEvent;
  cursor.attempt = 1;
  EXPECT_EQ(output_of(feed, cursor, &end), "first\n");
  EXPECT_EQ(end, JobFeed::Next::kEnd) << "nothing comes of it any more";
  cursor.attempt = 2;
  EXPECT_EQ(output_of(feed, cursor, &end), "second\n");
  EXPECT_EQ(end, JobFeed::Next::kNothingYet);
}

TEST(EventProto, AKindOfANewerMasterIsOther) {
  v1::Event newer = event(1, "j1");
  newer.set_kind(static_cast<v1::EventKind>(v1::EventKind_MAX + 1));
  EXPECT_EQ(from_proto(newer).kind, EventKind::kOther);
  EXPECT_EQ(from_proto(event(1, "j1")).kind, EventKind::kJobStarted);
}

TEST(JobFeed, SinceGivesWholeLinesEvenIfTheyBeganBefore) {
  JobFeed feed(size_t{1} << 20);
  feed.append(piece(1, 0, 100, "old\nbegun "));
  feed.append(piece(1, 10, 200, "earlier, "));
  feed.append(piece(1, 19, 300, "ended later\nnew\n"));
  JobFeed::Cursor cursor = feed.start(true, true, false, {});
  cursor.since_unix_ms = 300;
  EXPECT_EQ(output_of(feed, cursor), "begun earlier, ended later\nnew\n");
  cursor.since_unix_ms = 301;
  EXPECT_EQ(output_of(feed, cursor), "");
  cursor.since_unix_ms = 100;
  EXPECT_EQ(output_of(feed, cursor), "old\nbegun earlier, ended later\nnew\n");
}

}  // namespace
}  // namespace longhaul
