// What a user is told while the master is away, in the same words by every command that waits for
// something: which of them goes on, and for how long, is the client's rule (job_client.h).
#pragma once

#include <optional>
#include <string>

#include "apps/cli/commands/command.h"
#include "apps/cli/follow/screen.h"
#include "control/client/job_client.h"

namespace longhaul::cli {

struct MasterFlags {
  std::string address;
  milliseconds patience{60'000};
};

// --master, and --master-timeout for a command that follows something.
void add_patient_master_flags(CLI::App& command, MasterFlags* flags);

// "lost the master at ... (connection refused); trying again for 60 s", or that it is back.
std::string link_text(const MasterFlags& flags, const std::optional<Failure>& lost);

// A client that waits for its master, and says so on `screen`.
ClientOptions patient(const MasterFlags& flags, Screen& screen);

}  // namespace longhaul::cli
