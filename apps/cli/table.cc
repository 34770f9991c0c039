#include "apps/cli/table.h"

#include <algorithm>

namespace longhaul::cli {
namespace {

std::vector<size_t> column_widths(const Row& header, const std::vector<Row>& rows) {
  std::vector<size_t> widths(header.size(), 0);
  const auto widen = [&widths](const Row& row) {
    for (size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  };
  widen(header);
  for (const Row& row : rows) widen(row);
  return widths;
}

void append_row(const Row& row, const std::vector<size_t>& widths, std::string* text) {
  std::string line;
  for (size_t i = 0; i < row.size() && i < widths.size(); ++i) {
    line += row[i];
    line.append(widths[i] - row[i].size() + 2, ' ');
  }
  line.erase(line.find_last_not_of(' ') + 1);
  *text += line + "\n";
}

}  // namespace

std::string render_table(const Row& header, const std::vector<Row>& rows) {
  const std::vector<size_t> widths = column_widths(header, rows);
  std::string text;
  append_row(header, widths, &text);
  for (const Row& row : rows) append_row(row, widths, &text);
  return text;
}

}  // namespace longhaul::cli
