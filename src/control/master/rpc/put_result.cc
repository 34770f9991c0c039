// PutResult: one large result of a worker. One thing happens at a time: a read, then the owner
// thread's or the files' thread's part, then the next read. So a worker that floods waits, and a
// stream holds one message in memory.
#include <memory>
#include <utility>

#include "control/convert/worker_proto.h"
#include "control/master/rpc/worker_session.h"
#include "rpc/grpc_error.h"

namespace longhaul {
namespace {

constexpr size_t kMaxDataBytes = size_t{4} << 20;

// What `cap` bytes can become at most when they do not compress. A frame adds some 20 bytes, so
// this is enough also for frames far smaller than the 256 KiB that our workers choose.
uint64_t most_compressed(uint64_t cap) {
  return cap + cap / 64 + (uint64_t{64} << 10);
}

class ResultPut final : public grpc::ServerBidiReactor<v1::PutResultRequest, v1::PutResultReply> {
 public:
  explicit ResultPut(Core* core) : core_(core) {}

  static ResultPut* start(Core* core) {
    auto put = std::make_shared<ResultPut>(core);
    put->self_ = put;
    put->StartRead(&put->request_);
    return put.get();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish({grpc::StatusCode::CANCELLED, "the worker is gone"});
    switch (request_.part_case()) {
      case v1::PutResultRequest::kHeader:
        if (header_taken_) return refuse("a second header");
        header_taken_ = true;
        return on_owner([this](ClusterState& state) { begin(state); });
      case v1::PutResultRequest::kData:
        if (!draft_) return refuse("data where none was asked for");
        if (request_.data().size() > kMaxDataBytes) return refuse("too much data in one message");
        return on_files([this](ResultIntake::Files& files) { take_data(files); });
      case v1::PutResultRequest::kEnd:
        if (!draft_ && !whole_) return refuse("an end without a header");
        if (request_.end().result_bytes() > cap_) return refuse("more than the job's cap");
        if (whole_ == request_.end().bytes()) return answer_stored();
        if (!draft_) return refuse("not the result that it stored before");
        return on_files([this](ResultIntake::Files& files) { finish_file(files); });
      default:
        return refuse("a part that this master does not know");
    }
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish({grpc::StatusCode::CANCELLED, "the worker is gone"});
    if (reply_.stored()) return Finish(grpc::Status::OK);
    StartRead(&request_);
  }

  void OnDone() override {
    // Closed on the thread that writes it. What came stays in the file for the next try.
    if (draft_) {
      core_->results().post([name = name_, draft = std::move(draft_)](ResultIntake::Files& files) {
        const auto open = files.drafts.find(name);
        if (open != files.drafts.end() && open->second == draft) files.drafts.erase(open);
      });
    }
    self_.reset();
  }

 private:
  // Each step holds this object: between two steps gRPC has no operation open, and only the step
  // that runs brings the call on or ends it.
  void on_owner(std::function<void(ClusterState&)> step) {
    const bool posted = core_->post(
        [self = self_, step = std::move(step)](ClusterState& state, Now) { step(state); });
    if (!posted) closing();
  }
  void on_files(std::function<void(ResultIntake::Files&)> step) {
    const bool posted = core_->results().post(
        [self = self_, step = std::move(step)](ResultIntake::Files& files) { step(files); });
    if (!posted) closing();
  }

  // On the owner thread.

  bool is_current(const ClusterState& state) const {
    const TaskTable* tasks = state.tasks(launch_);
    return tasks != nullptr && tasks->standing(lease_) == LeaseStanding::kCurrent;
  }

  void begin(ClusterState& state) {
    launch_ = {request_.header().job_id(), request_.header().generation(),
               request_.header().life()};
    lease_ = from_proto(request_.header().lease());
    if (!is_current(state)) return stale();
    cap_ = state.status(launch_.job)->spec.array->max_result_bytes;
    name_ = ResultIntake::name_of(launch_.job, lease_);
    // An earlier try stored it, and its answer was lost: nothing is written again, only the end is
    // compared.
    whole_ = core_->results().whole(name_);
    if (whole_) return answer_have(*whole_);
    core_->results().expect(name_);
    on_files([this](ResultIntake::Files& files) { open(files); });
  }

  void settle(ClusterState& state) {
    // The lease may have been lost, with its worker, while the file was synced: then nobody else
    // would remove the file.
    if (!is_current(state)) {
      core_->results().lease_ended(name_, false);
      return stale();
    }
    core_->results().stored(name_, request_.end().bytes());
    answer_stored();
  }

  // On the files' thread.

  void open(ResultIntake::Files& files) {
    // An earlier try may still be here, of a worker whose connection broke unnoticed. This one
    // takes over from where its file ends, and the older one finds itself superseded at its next
    // step.
    files.drafts.erase(name_);
    Result<ResultDraft> opened = files.files.open(name_);
    if (!opened) return fail(opened.failure());
    draft_ = files.drafts[name_] = std::make_shared<ResultDraft>(std::move(*opened));
    answer_have(draft_->size());
  }

  bool is_ours(const ResultIntake::Files& files) const {
    const auto open = files.drafts.find(name_);
    return open != files.drafts.end() && open->second == draft_;
  }

  void take_data(ResultIntake::Files& files) {
    if (!is_ours(files)) return superseded();
    if (draft_->size() + request_.data().size() > most_compressed(cap_)) {
      return refuse("more than the job's cap");
    }
    const Result<void> taken = draft_->append(request_.data());
    if (!taken) return fail(taken.failure());
    StartRead(&request_);
  }

  void finish_file(ResultIntake::Files& files) {
    if (!is_ours(files)) return superseded();
    const Result<void> finished = draft_->finish(request_.end().bytes(), request_.end().checksum());
    files.drafts.erase(name_);
    if (!finished) return fail(finished.failure());
    on_owner([this](ClusterState& state) { settle(state); });
  }

  void answer_have(uint64_t bytes) {
    reply_.set_have(bytes);
    StartWrite(&reply_);
  }
  void answer_stored() {
    reply_.set_stored(true);
    StartWrite(&reply_);
  }

  // Each ends the call.
  void fail(const Failure& failure) { Finish(to_status(failure)); }
  void stale() { fail({ErrorKind::kStale, "this lease counts no more"}); }
  void superseded() { fail({ErrorKind::kPeerLost, "this result comes on another stream by now"}); }
  void closing() { fail({ErrorKind::kUnavailable, "the master is shutting down"}); }
  void refuse(const std::string& why) { fail({ErrorKind::kInvalid, "a result: " + why}); }

  Core* const core_;
  std::shared_ptr<ResultPut> self_;  // gRPC holds a plain pointer until OnDone()
  v1::PutResultRequest request_;
  v1::PutResultReply reply_;
  bool header_taken_ = false;
  LaunchId launch_;
  Lease lease_;
  ResultName name_;
  uint64_t cap_ = 0;
  std::optional<uint64_t> whole_;  // stored before, by a try whose answer was lost
  std::shared_ptr<ResultDraft> draft_;
};

}  // namespace

grpc::ServerBidiReactor<v1::PutResultRequest, v1::PutResultReply>* WorkerServiceImpl::PutResult(
    grpc::CallbackServerContext* /*context*/) {
  return ResultPut::start(core_);
}

}  // namespace longhaul
