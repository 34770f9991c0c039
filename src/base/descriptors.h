// Open files as a thing that runs out: the limit is raised where a daemon starts, what may take how
// many is decided by whoever takes them, and "there is none left now" is told from "it is not
// there".
#pragma once

#include <cstdint>

namespace longhaul {

// Raises this process's soft limit of open files to its hard one. Returns the soft limit from
// before: what programs that this process starts should have, as some look at every number below
// it.
uint64_t raise_descriptor_limit();

// How many descriptors this process may have; what is without limit counts as a million.
uint64_t descriptor_limit();

// Whether a call that failed with `error_number` may well succeed a moment later: this process, or
// the host, has too many files open or processes, or no memory or disk left.
bool is_passing(int error_number);

}  // namespace longhaul
