#include <utility>

#include "base/capped.h"
#include "control/convert/worker_proto.h"
#include "control/master/rpc/job_service.h"

namespace longhaul {
namespace {

// A list is told in pages, so that one call neither fills a message nor holds up the owner thread,
// however many jobs there are. A page ends with the job that exceeds this.
constexpr size_t kJobPageBytes = size_t{1} << 20;
constexpr size_t kCommandBytes = size_t{4} << 10;

// A command as far as a list shows it.
void shorten(v1::JobSpec* spec) {
  spec->clear_env();
  size_t bytes = 0;
  int words = 0;
  for (; words < spec->command_size() && bytes < kCommandBytes; ++words) {
    std::string& word = *spec->mutable_command(words);
    word = capped(std::move(word), kCommandBytes);
    bytes += word.size();
  }
  const int left_out = spec->command_size() - words;
  spec->mutable_command()->DeleteSubrange(words, left_out);
  if (left_out > 0) spec->add_command("...");
  if (!spec->has_array()) return;
  std::string& indices = *spec->mutable_array()->mutable_indices();
  indices = capped(std::move(indices), kCommandBytes);
}

v1::JobStatus listed(const JobStatus& job) {
  v1::JobStatus proto = to_proto(job);
  shorten(proto.mutable_spec());
  for (v1::RankStatus& rank : *proto.mutable_ranks()) rank.clear_fault();
  proto.clear_earlier_failures();
  if (!proto.has_failure()) return proto;
  proto.mutable_failure()->clear_evidence();
  proto.mutable_failure()->clear_last_lines();
  proto.mutable_failure()->clear_backtrace();
  return proto;
}

}  // namespace

grpc::ServerUnaryReactor* JobServiceImpl::ListJobs(grpc::CallbackServerContext* context,
                                                   const v1::ListJobsRequest* request,
                                                   v1::ListJobsReply* reply) {
  return on_owner_thread<Call::kLooksUp>(context, [request, reply](ClusterState& state, Now) {
    size_t bytes = 0;
    for (const JobStatus* job : state.list(request->include_ended(), request->after())) {
      if (bytes >= kJobPageBytes) {
        reply->set_more(true);
        break;
      }
      *reply->add_jobs() = listed(*job);
      bytes += reply->jobs(reply->jobs_size() - 1).ByteSizeLong();
    }
    return grpc::Status::OK;
  });
}

}  // namespace longhaul
