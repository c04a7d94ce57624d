// Fresh memory: giving it to the process in one go rather than page by page.
#pragma once

#include <cstddef>

namespace fanin {

// Asks for the pages of a part of a tensor that is about to be written, if they are not there yet:
// one call of the system in the place of a fault for every page.  A failure is no harm: the pages
// then come as they are touched.
void make_present(char *begin, size_t bytes);

}  // namespace fanin
