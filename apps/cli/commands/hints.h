// What people type who know torchrun, Slurm, Docker or Kubernetes, and what it is called here.
#pragma once

#include "apps/common/flags.h"

namespace longhaul::cli {

// By the word that is no command or flag of ours.
const Hints& hints();

}  // namespace longhaul::cli
