#include "memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace fanin {

namespace {

// Known since Linux 5.14; headers may be older than the kernel that runs.
constexpr int populate_for_writing = 23;
// A few pages are sooner touched than asked for.
constexpr size_t least_bytes = 1 << 16;

}  // namespace

void make_present(char *begin, size_t bytes) {
    static const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    if (bytes < least_bytes) return;
    // Inner pages only: those at the ends may belong to somebody else's memory too.
    const uintptr_t from = ((uintptr_t)begin + page - 1) & ~(page - 1);
    const uintptr_t to = ((uintptr_t)begin + bytes) & ~(page - 1);
    if (from >= to) return;
    // The first page speaks for all: parts are filled whole.
    unsigned char present = 1;
    const int before = errno;
    if (mincore((void *)from, 1, &present) == 0 && (present & 1) == 0) {
        (void)madvise((void *)from, to - from, populate_for_writing);
    }
    errno = before;
}

}  // namespace fanin

#else

namespace fanin {

void make_present(char *, size_t) {}

}  // namespace fanin

#endif
