// WatchEvents: a cursor into the journal, moved on whenever the reader has taken what it was sent.
#include <memory>
#include <utility>

#include "control/master/feeds/feed_stream.h"
#include "control/master/rpc/job_service.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

class EventStream final : public FeedStream<v1::Event> {
 public:
  // Before the first wake().
  void attach(const EventJournal* journal, EventJournal::Cursor cursor) {
    journal_ = journal;
    cursor_ = std::move(cursor);
  }

 private:
  Next next(v1::Event* event, grpc::Status* /*status*/) override {
    switch (journal_->next(&cursor_, event)) {
      case EventJournal::Next::kEvent:
        return Next::kMessage;
      case EventJournal::Next::kNothingYet:
        return Next::kNothingYet;
      case EventJournal::Next::kEnd:
        break;
    }
    return Next::kEnd;
  }

  const EventJournal* journal_ = nullptr;  // the core's, which outlives all streams
  EventJournal::Cursor cursor_;
};

// A job or worker may be forgotten while the journal still tells of it.
Result<EventJournal::Cursor> cursor_for(const v1::WatchEventsRequest& request,
                                        const ClusterState& state, const EventJournal& journal) {
  EventJournal::Cursor cursor;
  cursor.since_unix_ms = request.since_unix_ms();
  cursor.after = request.after_number();
  cursor.follow = request.follow();
  if (!request.job().empty()) {
    const Result<JobId> id = state.find(request.job());
    if (!id && !journal.knows_job(request.job())) return id.failure();
    cursor.job = id ? *id : request.job();
    if (!id || has_ended(state.status(*id)->state)) cursor.follow = false;
  }
  cursor.worker = request.worker_id();
  if (!cursor.worker.empty() && state.worker(cursor.worker) == nullptr &&
      !journal.knows_worker(cursor.worker)) {
    return Failure{ErrorKind::kInvalid,
                   str_cat("no worker '", cursor.worker, "'; `longhaul nodes` lists them")};
  }
  return cursor;
}

}  // namespace

grpc::ServerWriteReactor<v1::Event>* JobServiceImpl::WatchEvents(
    grpc::CallbackServerContext* /*context*/, const v1::WatchEventsRequest* request) {
  const auto stream = std::make_shared<EventStream>();
  stream->hold(stream);
  const bool posted = core_->post([this, stream, request = *request](ClusterState& state, Now) {
    EventJournal& journal = core_->journal();
    const Result<EventJournal::Cursor> wanted = cursor_for(request, state, journal);
    if (!wanted) return stream->refuse(to_status(wanted.failure()));
    const auto begin = [stream, &journal, wanted = *wanted](bool /*durable*/) {
      stream->attach(&journal, journal.start(wanted));
      journal.listen(stream);
      stream->wake();
    };
    // The journal shows only what is durable. Whoever asks is to hear of all that has happened by
    // now, so this waits until that is on disk; but not while the disk takes nothing.
    if (core_->trouble()) return begin(false);
    core_->when_durable(begin);
  });
  if (!posted) stream->refuse(closing());
  return stream.get();
}

}  // namespace longhaul
