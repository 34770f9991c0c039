// What users may call things, and what a program can be given: checked where it is submitted, so
// that nothing reaches a terminal, a message or an exec() that it would upset.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cluster/jobs/job.h"
#include "longhaul/base/error.h"

namespace longhaul {

constexpr size_t kMaxNameBytes = 128;
// Linux gives no program one argument or variable that is longer, nor more than this in all.
constexpr size_t kMaxArgumentBytes = (size_t{128} << 10) - 1;
constexpr size_t kMaxArgumentsBytes = size_t{6} << 20;

// Why this is no name: more than so many bytes, not UTF-8, with characters that are not shown
// (control characters, line separators, those that turn the direction of writing), or with blanks
// at an end. `what` it would name begins the message. Errors: kInvalid.
std::optional<Failure> why_no_name(std::string_view what, std::string_view name,
                                   size_t most_bytes = kMaxNameBytes);

// Likewise a job's name: "" is none. What commands take for something else is taken: "last", "j7",
// and what begins like a flag.
std::optional<Failure> why_no_job_name(std::string_view name);

// Why no program can be given this as an argument or a variable: it holds a NUL byte.
std::optional<Failure> why_no_argument(std::string_view what, std::string_view text);

// All that a user wrote into a spec.
std::optional<Failure> why_unusable_text(const JobSpec& spec);

}  // namespace longhaul
