// What programs print, made fit for a terminal that shows the output of many of them.
#pragma once

#include <string>
#include <string_view>

namespace longhaul::cli {

// Lines as a person sees them in the end, and nothing that steers the terminal: escape sequences
// (colours, cursor, titles) are left out; of a line that was drawn over and over ("\r", a progress
// bar) the last picture is left; other control characters and bytes that are no UTF-8 are escaped
// (base/printable.h). Line ends and tabs stay.
std::string terminal_text(std::string_view lines);

}  // namespace longhaul::cli
