#include "layout.h"

#include <algorithm>
#include <cstring>

#include "environment.h"

namespace fanin {

namespace {

// Strided elements are drawn in runs into here, then picked.
constexpr uint64_t buffer_elements = 1024;
// Beyond this step a run holds so few wanted elements that each is drawn with its tile alone.
constexpr uint64_t sparse_step = 32;

void scatter(const char *from, uint64_t from_step, char *to, int64_t to_step, uint64_t count,
             size_t size) {
    for (uint64_t i = 0; i < count; i++) {
        std::memcpy(to + (int64_t)i * to_step * (int64_t)size, from + i * from_step * size, size);
    }
}

}  // namespace

void fill_part(const Draw &draw, FillRun fill_run, const Layout &layout, uint64_t begin,
               uint64_t end, char *data) {
    const DefaultEnvironment environment;
    const size_t size = item_size(draw.dtype);
    layout.walk(begin, end, [&](uint64_t first, uint64_t step, int64_t target,
                                int64_t target_step, uint64_t count) {
        char *to = data + target * (int64_t)size;
        if (step == 1 && target_step == 1) return fill_run(draw, first, count, to);
        alignas(64) char buffer[buffer_elements * 8];
        const uint64_t at_once = step > sparse_step ? 1 : (buffer_elements - 1) / step + 1;
        for (uint64_t done = 0; done < count; done += at_once) {
            const uint64_t here = std::min(at_once, count - done);
            fill_run(draw, first + done * step, (here - 1) * step + 1, buffer);
            scatter(buffer, step, to + (int64_t)done * target_step * (int64_t)size, target_step,
                    here, size);
        }
    });
}

}  // namespace fanin
