#include "runtime/live_output.h"

#include <stdio_ext.h>

#include <cstdio>
#include <iostream>

namespace longhaul {

void show_lines_as_they_come() {
  // An unbuffered stream has a buffer of one byte; one that was not used yet has none.
  const bool unbuffered = ::__fbufsize(stdout) == 1;
  if (!unbuffered) (void)std::setvbuf(stdout, nullptr, _IOLBF, 0);
  // Says what it was before, and changes nothing that was synchronized.
  if (std::ios_base::sync_with_stdio(true)) return;
  for (std::ostream* stream : {&std::cout, &std::clog}) *stream << std::unitbuf << std::flush;
  for (std::wostream* stream : {&std::wcout, &std::wclog}) *stream << std::unitbuf << std::flush;
}

}  // namespace longhaul
