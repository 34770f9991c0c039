// Text of others (names, messages, hosts, lines) made fit for a terminal or a log: one line of
// valid UTF-8 that steers nothing. What programs read (JSON, results) keeps every byte instead.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace longhaul {

// Control characters (C0, C1, DEL), line and paragraph separators and marks that turn the writing
// direction become "\n", "\t", "\x1b", "\u{202e}"; bytes that are no UTF-8 become "\xff". All else
// stays as it is, a backslash too.
std::string printable(std::string_view text);
// The same for a line that a program wrote: its tabs stay.
std::string printable_line(std::string_view text);

// Whether all of it is UTF-8 (RFC 3629: no surrogates, nothing longer than need be).
bool is_utf8(std::string_view text);
// Bytes of the character that `text` begins with; 0: it is no UTF-8, or cut off. Precondition: not
// empty.
size_t character_length(std::string_view text);

// Columns on a terminal, where every character takes one.
size_t display_width(std::string_view text);
// The text if it has at most `width` columns, else its beginning and "..", `width` columns in all.
std::string shorten(std::string_view text, size_t width);

}  // namespace longhaul
