// Where the results of an array go: one after the other as they are, a line of JSON each, or a file
// each.
#pragma once

#include <memory>
#include <string>

#include "control/client/job_client.h"

namespace longhaul::cli {

// Thread safety: none.
class ResultSink {
 public:
  virtual ~ResultSink() = default;
  // Of a task without a result there is one piece, the last. False: it cannot be written.
  virtual bool take(const ResultPiece& piece) = 0;
};

// The bytes of each result, to stdout; a terminal gets terminal_text.h's unless `raw`.
std::unique_ptr<ResultSink> make_plain_sink(bool raw);
// {"schema":1,"task":505,"state":"done","attempt":1,"input":"505","input_encoding":"utf-8",
// "worker":"gpu-a","duration_ms":12,"error":null,"encoding":"utf-8","result":"..."} for each task,
// to stdout. What is no UTF-8, and a result of more than kLongestText bytes, is in base64, and its
// encoding says so. A task without a result has the reason in "error" and null as result.
std::unique_ptr<ResultSink> make_json_sink();
constexpr uint64_t kLongestText = uint64_t{32} << 20;
// A file called by the task; whoever sees it sees all of it.
std::unique_ptr<ResultSink> make_folder_sink(const std::string& folder);

}  // namespace longhaul::cli
