#include "apps/cli/text/table.h"

#include <algorithm>
#include <numeric>

#include "base/printable.h"

namespace longhaul::cli {
namespace {

std::vector<size_t> column_widths(const Row& header, const std::vector<Row>& rows) {
  std::vector<size_t> widths(header.size(), 0);
  const auto widen = [&widths](const Row& row) {
    for (size_t i = 0; i < row.size() && i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(row[i]));
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
    line.append(widths[i] - display_width(row[i]) + 2, ' ');
  }
  line.erase(line.find_last_not_of(' ') + 1);
  *text += line + "\n";
}

// Takes what is too much off one column.
void narrow(size_t column, size_t width, Row* header, std::vector<Row>* rows) {
  const std::vector<size_t> widths = column_widths(*header, *rows);
  const size_t gaps = 2 * (widths.size() - 1);
  const size_t total = std::accumulate(widths.begin(), widths.end(), gaps);
  if (total <= width) return;
  const size_t excess = total - width;
  const size_t kept = std::max(kNarrowest, widths[column] - std::min(widths[column], excess));
  (*header)[column] = shorten((*header)[column], kept);
  for (Row& row : *rows) {
    if (column < row.size()) row[column] = shorten(row[column], kept);
  }
}

}  // namespace

std::string render_table(Row header, std::vector<Row> rows, size_t flexible, size_t width) {
  // The last column is free text and loses most; the flexible one gives only what is still too
  // much.
  narrow(header.size() - 1, width, &header, &rows);
  narrow(flexible, width, &header, &rows);
  return render_table(header, rows);
}

std::string render_table(const Row& header, const std::vector<Row>& rows) {
  const std::vector<size_t> widths = column_widths(header, rows);
  std::string text;
  append_row(header, widths, &text);
  for (const Row& row : rows) append_row(row, widths, &text);
  return text;
}

}  // namespace longhaul::cli
