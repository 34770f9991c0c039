// Columns of text, aligned: what `ps`, `nodes` and `status` print for people.
#pragma once

#include <string>
#include <vector>

namespace longhaul::cli {

using Row = std::vector<std::string>;

// Two spaces between columns, nothing after the last; a row may be shorter than the header.
std::string render_table(const Row& header, const std::vector<Row>& rows);
// The same in at most `width` columns of a terminal: where it is too wide, the last column is cut,
// then the column `flexible`, down to kNarrowest each.
std::string render_table(Row header, std::vector<Row> rows, size_t flexible, size_t width);
constexpr size_t kNarrowest = 8;

}  // namespace longhaul::cli
