// The Python module fanin.randomness._kernel.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>

#include "environment.h"
#include "layout.h"
#include "memory.h"
#include "pool.h"
#include "widths.h"

namespace nb = nanobind;

namespace fanin {

namespace {

// Elements drawn between two looks at the queue: 256 KiB of float32, about 50 microseconds.
constexpr uint64_t chunk_elements = 1 << 16;
// Below this the hand-over to another thread costs more than it saves.
constexpr uint64_t least_for_threads = 1 << 17;

bool interrupted() {
    const nb::gil_scoped_acquire gil;
    return PyErr_CheckSignals() != 0;
}

// Runs part(begin, end) over all elements, in chunks under the pool.
template <class Part>
void in_chunks(uint64_t count, int threads, const Part &part) {
    if (count <= chunk_elements) return part(0, count);
    const uint64_t chunks = (count + chunk_elements - 1) / chunk_elements;
    const auto chunk = [&](uint64_t number) {
        const uint64_t begin = number * chunk_elements;
        part(begin, begin + chunk_elements < count ? begin + chunk_elements : count);
    };
    bool done;
    {
        const nb::gil_scoped_release no_gil;
        done = run_chunks(chunks, count < least_for_threads ? 1 : threads, chunk, interrupted);
    }
    if (!done) throw nb::python_error();
}

Draw draw_of(int kind, int dtype, uint64_t key, const nb::bytes &numbers) {
    Draw draw{(Kind)kind, (Dtype)dtype, key, {}};
    const bool integers = kind == (int)Kind::integers;
    if (kind < 0 || kind > last_kind || dtype < 0 || dtype > last_dtype ||
        integers != (dtype == (int)Dtype::int64) ||
        numbers.size() > sizeof draw.numbers || numbers.size() % sizeof(double) != 0) {
        throw nb::value_error("fanin kernel: no such kind, dtype or number of constants");
    }
    std::memcpy(draw.numbers, numbers.c_str(), numbers.size());
    return draw;
}

const Width &width_at(size_t index) {
    if (index >= widths().size()) throw nb::index_error("fanin kernel: no such vector width");
    return widths()[index];
}

void fill_contiguous(size_t width, int kind, int dtype, uint64_t key, const nb::bytes &numbers,
                     uintptr_t data, uint64_t first, uint64_t count, int threads) {
    if (count == 0) return;
    const FillRun fill_run = width_at(width).fill_run;
    const Draw draw = draw_of(kind, dtype, key, numbers);
    const size_t size = item_size(draw.dtype);
    in_chunks(count, threads, [&](uint64_t begin, uint64_t end) {
        char *to = (char *)data + begin * size;
        make_present(to, (end - begin) * size);
        const DefaultEnvironment environment;
        fill_run(draw, first + begin, end - begin, to);
    });
}

void fill_strided(size_t width, int kind, int dtype, uint64_t key, const nb::bytes &numbers,
                  uintptr_t data, uint64_t first, const std::vector<uint64_t> &sizes,
                  const std::vector<int64_t> &element_steps,
                  const std::vector<int64_t> &target_steps, int threads) {
    if (sizes.size() != element_steps.size() || sizes.size() != target_steps.size()) {
        throw nb::value_error("fanin kernel: as many steps as sizes, please");
    }
    std::vector<Axis> axes;
    for (size_t i = 0; i < sizes.size(); i++) {
        if (sizes[i] == 0) return;
        axes.push_back({sizes[i], element_steps[i], target_steps[i]});
    }
    const FillRun fill_run = width_at(width).fill_run;
    const Draw draw = draw_of(kind, dtype, key, numbers);
    const Layout layout(first, std::move(axes));
    in_chunks(layout.count(), threads, [&](uint64_t begin, uint64_t end) {
        fill_part(draw, fill_run, layout, begin, end, (char *)data);
    });
}

std::vector<std::string> names_of_widths() {
    std::vector<std::string> names;
    for (const Width &width : widths()) names.push_back(width.name);
    return names;
}

}  // namespace

}  // namespace fanin

NB_MODULE(_kernel, module) {
    module.def("fill_contiguous", &fanin::fill_contiguous);
    module.def("fill_strided", &fanin::fill_strided);
    module.def("widths", &fanin::names_of_widths);
}
