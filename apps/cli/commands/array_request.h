// What `longhaul map` was asked for becomes the array that is submitted.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/cli/commands/job_request.h"

namespace longhaul::cli {

struct ArrayRequest {
  JobRequest job;
  // Where the tasks come from; exactly one of them.
  std::string indices;    // "0-999%50"
  std::string each_line;  // a file, "-" for stdin
  std::string from_json;  // a file with a JSON array, "-" for stdin
  std::string each_file;  // a folder
  ArrayJobSpec array;     // as the flags say; the tasks and the size of a result are filled in
  uint64_t max_result_mib = 8;
};

struct ArrayRequested {
  JobSpec spec;
  // Gives the inputs one after the other, then false; empty where the tasks are indices. Lines are
  // read only now: there may be more of them than memory. Errors: kInvalid (a line that is too
  // long, or cannot be read).
  std::function<Result<bool>(std::string*)> next_input;
};

// All but what the tasks are. Errors: kInvalid.
Result<JobSpec> make_array_spec(const ArrayRequest& request, const JobRequest& job,
                                const std::filesystem::path& here, const Variables& environment);

// Finds the inputs. A line's or a string's own text becomes the input, any other JSON value its
// own text without white space between tokens (json_values.h); files come in the order of their
// names, as absolute paths. Errors: kInvalid.
Result<ArrayRequested> make_array(const ArrayRequest& request, const std::filesystem::path& here,
                                  const Variables& environment);

}  // namespace longhaul::cli
