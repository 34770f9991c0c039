// Standard output of a rank is a pipe, and C and C++ keep what goes into a pipe to themselves until
// 4 KiB have come together: a rank would show nothing until it ends, and nothing at all of what it
// printed before it crashed.
#pragma once

namespace longhaul {

// From now on stdout hands over whole lines, as it does to a terminal, and std::cout and std::clog
// too where they have buffers of their own (std::ios::sync_with_stdio(false)). Streams that the
// program has made unbuffered stay so; stderr and std::cerr always were. What is in the buffers is
// kept. To be called while no other thread prints.
void show_lines_as_they_come();

}  // namespace longhaul
