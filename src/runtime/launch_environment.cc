#include "runtime/launch_environment.h"

#include <charconv>
#include <limits>

#include "longhaul/base/strings.h"

namespace longhaul {
namespace {

Failure invalid(const std::string& message) {
  return {ErrorKind::kInvalid, message};
}

// A whole number from `low` to `high`; `missing` when the variable is not set.
Result<int64_t> read_number(const ReadVariable& read, const char* name, int64_t low, int64_t high,
                            std::optional<int64_t> missing = std::nullopt) {
  const std::optional<std::string> text = read(name);
  if (!text) {
    if (missing) return *missing;
    return invalid(str_cat(name, " is not set"));
  }
  int64_t value = 0;
  const char* end = text->data() + text->size();
  const auto [stopped, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc() || stopped != end)
    return invalid(str_cat(name, "='", *text, "' is not a whole number"));
  if (value < low || value > high)
    return invalid(str_cat(name, "=", value, " is not between ", low, " and ", high));
  return value;
}

Result<void> read_placement(const ReadVariable& read, Placement* placement) {
  constexpr int64_t kMax = std::numeric_limits<int>::max();
  const Result<int64_t> size = read_number(read, "WORLD_SIZE", 1, kMax);
  if (!size) return size.failure();
  const Result<int64_t> rank = read_number(read, "RANK", 0, *size - 1);
  if (!rank) return invalid(str_cat(rank.failure().message, " (WORLD_SIZE=", *size, ")"));
  const Result<int64_t> local_size = read_number(read, "LOCAL_WORLD_SIZE", 1, *size, 1);
  if (!local_size) return local_size.failure();
  const Result<int64_t> local_rank = read_number(read, "LOCAL_RANK", 0, *size - 1, 0);
  if (!local_rank) return local_rank.failure();
  const Result<int64_t> restarts = read_number(read, "TORCHELASTIC_RESTART_COUNT", 0, kMax, 0);
  if (!restarts) return restarts.failure();
  placement->rank = static_cast<Rank>(*rank);
  placement->world_size = static_cast<int>(*size);
  placement->local_rank = static_cast<int>(*local_rank);
  placement->local_world_size = static_cast<int>(*local_size);
  placement->generation = static_cast<Generation>(*restarts);
  return {};
}

}  // namespace

Result<std::optional<LaunchEnvironment>> read_launch_environment(const ReadVariable& read) {
  const bool has_rank = read("RANK").has_value();
  const bool has_size = read("WORLD_SIZE").has_value();
  if (!has_rank && !has_size) return std::optional<LaunchEnvironment>();
  if (!has_size) return invalid("RANK is set but WORLD_SIZE is not: torchrun sets both");
  if (!has_rank) return invalid("WORLD_SIZE is set but RANK is not: torchrun sets both");

  LaunchEnvironment environment;
  const Result<void> placed = read_placement(read, &environment.placement);
  if (!placed) return placed.failure();
  if (environment.placement.world_size == 1) return std::optional(environment);

  const std::optional<std::string> address = read("MASTER_ADDR");
  if (!address || address->empty())
    return invalid(str_cat("WORLD_SIZE=", environment.placement.world_size,
                           " but MASTER_ADDR, the host of rank 0, is not set"));
  const Result<int64_t> port = read_number(read, "MASTER_PORT", 1, 65535);
  if (!port) return port.failure();
  environment.master_address = *address;
  environment.master_port = static_cast<uint16_t>(*port);
  environment.serves_store =
      environment.placement.rank == 0 && read("TORCHELASTIC_USE_AGENT_STORE") != "True";
  return std::optional(environment);
}

}  // namespace longhaul
