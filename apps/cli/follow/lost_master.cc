#include "apps/cli/follow/lost_master.h"

#include "longhaul/base/strings.h"

namespace longhaul::cli {

void add_patient_master_flags(CLI::App& command, MasterFlags* flags) {
  add_master_flag(command, &flags->address);
  add_seconds_flag(command, "--master-timeout", &flags->patience,
                   "how long a master that goes away is waited for (default 60s)");
}

std::string link_text(const MasterFlags& flags, const std::optional<Failure>& lost) {
  if (!lost) return str_cat("the master at ", flags.address, " is back");
  return str_cat("lost the master at ", flags.address, " (", lost->message, "); trying again for ",
                 format_seconds(static_cast<double>(flags.patience.count()) / 1000));
}

ClientOptions patient(const MasterFlags& flags, Screen& screen) {
  ClientOptions options;
  options.patience = flags.patience;
  options.on_link = [flags, &screen](const std::optional<Failure>& lost) {
    screen.message(link_text(flags, lost));
  };
  return options;
}

}  // namespace longhaul::cli
