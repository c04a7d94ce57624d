// What one fill is, as plain numbers: the contract between Python, the pool and the kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fanin {

// The truncated normal by the general quantile, within three sigmas or wider; or by a polynomial
// fitted to its bounds: in the fraction, in r, or in sqrt(offset + r).  Or plain 63-bit integers,
// for choices and permutations.
enum class Kind : int {
    uniform = 0,
    normal = 1,
    quantile = 2,
    quantile_wide = 3,
    fitted_narrow = 4,
    fitted_tail = 5,
    fitted_root = 6,
    integers = 7
};
constexpr int last_kind = 7;

enum class Dtype : int { float32 = 0, bfloat16 = 1, float16 = 2, float64 = 3, int64 = 4 };
constexpr int last_dtype = 4;

constexpr int max_numbers = 48;

// One distribution under one key.  `numbers` are the constants of the specification's dataclass
// for the kind, in its order; a float32 kernel narrows them, and they already are float32 values.
struct Draw {
    Kind kind;
    Dtype dtype;
    uint64_t key;
    double numbers[max_numbers];
};

// Writes elements first … first + count - 1 of the whole tensor to contiguous memory.
using FillRun = void (*)(const Draw &draw, uint64_t first, uint64_t count, void *out);

inline size_t item_size(Dtype dtype) {
    return dtype >= Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2;
}

}  // namespace fanin
