// Threads that wait for chunks of work.
#pragma once

#include <cstdint>
#include <functional>

namespace fanin {

// Calls work(i) for i = 0 … chunks - 1 on up to `threads` threads, the calling one included.
// Between its chunks the calling thread asks `interrupted` now and then; once that is true no
// further chunk is begun.  Returns whether all were done.  May be called from several threads at
// once, and in a child process after fork.  work must not throw.
bool run_chunks(uint64_t chunks, int threads, const std::function<void(uint64_t)> &work,
                const std::function<bool()> &interrupted);

}  // namespace fanin
