// Columns of text, aligned: what `ps`, `nodes` and `status` print for people.
#pragma once

#include <string>
#include <vector>

namespace longhaul::cli {

using Row = std::vector<std::string>;

// Two spaces between columns, nothing after the last; a row may be shorter than the header.
std::string render_table(const Row& header, const std::vector<Row>& rows);

}  // namespace longhaul::cli
