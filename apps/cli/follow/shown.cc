#include "apps/cli/follow/shown.h"

#include "base/printable.h"

namespace longhaul::cli {
namespace {

template <typename... Texts>
void make_printable(Texts&... texts) {
  ((texts = printable(texts)), ...);
}

// Lines of a program keep their tabs.
void make_lines_printable(std::vector<std::string>* lines) {
  for (std::string& line : *lines) line = printable_line(line);
}

void make_printable(FailureReport& failure) {
  make_printable(failure.worker, failure.host, failure.message);
  make_lines_printable(&failure.evidence);
  make_lines_printable(&failure.last_lines);
  make_lines_printable(&failure.backtrace);
}

void make_printable(RankRecord& rank) {
  make_printable(rank.worker, rank.host);
  if (rank.fault) make_printable(rank.fault->message);
  if (rank.progress) make_printable(rank.progress->operation, rank.progress->codec);
}

}  // namespace

JobStatus shown(JobStatus job) {
  make_printable(job.id, job.spec.name, job.spec.working_directory, job.reason);
  for (RankRecord& rank : job.ranks) make_printable(rank);
  if (job.failure) make_printable(*job.failure);
  for (FailureReport& failure : job.earlier_failures) make_printable(failure);
  if (job.array) {
    for (GivenUpTask& task : job.array->given_up) make_printable(task.reason);
  }
  if (job.hang) {
    make_printable(job.hang->message, job.hang->process_state);
    make_lines_printable(&job.hang->stack);
  }
  if (job.stopped_by) {
    make_printable(job.stopped_by->user, job.stopped_by->host, job.stopped_by->command);
  }
  return job;
}

NodeInfo shown(NodeInfo node) {
  make_printable(node.id, node.host, node.address, node.version);
  for (JobId& job : node.jobs) make_printable(job);
  return node;
}

Explanation shown(Explanation explanation) {
  make_printable(explanation.job, explanation.reason);
  for (std::string& help : explanation.help) make_printable(help);
  make_lines_printable(&explanation.details);
  for (ExplainedNode& node : explanation.nodes) make_printable(node.id, node.verdict);
  for (JobAhead& job : explanation.ahead) make_printable(job.id, job.name);
  return explanation;
}

ClusterEvent shown(ClusterEvent event) {
  make_printable(event.job, event.worker, event.text);
  return event;
}

}  // namespace longhaul::cli
