// From the four words of a block to values: one class a distribution, as in uniform.py,
// normal.py and truncated.py, and one for the integers of choice.py.  single() gives four float32
// values a block; twice() gives two float64 or int64 values from words that stand in memory.
#pragma once

#include "elementary.h"
#include "job.h"

namespace {

using fanin::Draw;
using fanin::Kind;

constexpr uint32_t sign_bit = 0x80000000u;

inline F32 signed_single(U32 word) {
    return __builtin_convertvector(bits<I32>(word), F32) * 0x1p-31f;
}
inline F64 number(H32 x) { return __builtin_convertvector(x, F64); }
// 53 bits as a signed integer: 32 of `high`, the upper 21 of `low`.
inline F64 signed_cells(H32 high, H32 low) {
    return number(high) * 2097152.0 + number((H32)((UH32)low >> 11));
}

struct Uniform {
    F32 half, middle, low, high;
    F64 half_64, middle_64, low_64, high_64;

    explicit Uniform(const Draw &draw) {
        const double *n = draw.numbers;
        middle_64 = F64{} + n[0], half_64 = F64{} + n[1], low_64 = F64{} + n[2];
        high_64 = F64{} + n[3];
        // The fraction's 2**-31 is exact, so that it may join the factor.
        middle = F32{} + (float)n[0], half = F32{} + (float)n[1] * 0x1p-31f;
        low = F32{} + (float)n[2], high = F32{} + (float)n[3];
    }
    inline void single(const U32 (&words)[4], F32 (&values)[4]) const {
        for (int w = 0; w < 4; w++) {
            const F32 x = __builtin_convertvector(bits<I32>(words[w]), F32);
            values[w] = minimum(maximum(x * half + middle, low), high);
        }
    }
    inline void twice(const H32 (&words)[4], F64 (&values)[2]) const {
        for (int h = 0; h < 2; h++) {
            const F64 x = signed_cells(words[2 * h], words[2 * h + 1]) * 0x1p-52;
            values[h] = minimum(maximum(x * half_64 + middle_64, low_64), high_64);
        }
    }
};

struct Normal {
    F32 mean, std;
    F64 mean_64, std_64;

    explicit Normal(const Draw &draw) {
        mean_64 = F64{} + draw.numbers[0], std_64 = F64{} + draw.numbers[1];
        mean = F32{} + (float)draw.numbers[0], std = F32{} + (float)draw.numbers[1];
    }
    inline void single(const U32 (&words)[4], F32 (&values)[4]) const {
        // Both pairs go side by side: each alone is one long chain of dependent operations.
        F32 radius[2], sine[2], cosine[2];
        for (int pair = 0; pair < 2; pair++) {
            const I32 cell = bits<I32>(words[2 * pair] & 0x7FFFFFFFu);
            const F32 x = __builtin_convertvector(cell, F32) + 0.5f;
            radius[pair] = root(minus_two_log<Single>(x, 31));
            sin_cos_half_turn<Single>(signed_single(words[2 * pair + 1]), sine[pair],
                                      cosine[pair]);
        }
        for (int pair = 0; pair < 2; pair++) {
            const U32 sign = words[2 * pair] & sign_bit;
            const F32 mirrored = bits<F32>(bits<U32>(cosine[pair]) ^ sign);
            values[2 * pair] = radius[pair] * mirrored * std + mean;
            values[2 * pair + 1] = radius[pair] * sine[pair] * std + mean;
        }
    }
    inline void twice(const H32 (&words)[4], F64 (&values)[2]) const {
        const F64 x = signed_cells(words[0] & 0x7FFFFFFF, words[1]) * 1.0 + 0.5;
        const F64 radius = root(minus_two_log<Double>(x, 52));
        F64 sine, cosine;
        sin_cos_half_turn<Double>(signed_cells(words[2], words[3]) * 0x1p-52, sine, cosine);
        const I64 negative = __builtin_convertvector(words[0], I64) < 0;
        cosine = negative ? -cosine : cosine;
        values[0] = radius * cosine * std_64 + mean_64;
        values[1] = radius * sine * std_64 + mean_64;
    }
};

// The truncated normal by the general quantile; wide where the bounds pass three sigmas.
template <bool wide>
struct Quantile {
    F32 below, above, middle, step, base, scale, low, high;
    F64 below_64, above_64, middle_64, step_64, base_64, scale_64, low_64, high_64;

    explicit Quantile(const Draw &draw) {
        const double *n = draw.numbers;
        const F64 zero = {};
        below_64 = zero + n[0], above_64 = zero + n[1], middle_64 = zero + n[2];
        step_64 = zero + n[3], base_64 = zero + n[4], scale_64 = zero + n[5];
        low_64 = zero + n[6], high_64 = zero + n[7];
        const F32 single_zero = {};
        below = single_zero + (float)n[0], above = single_zero + (float)n[1];
        middle = single_zero + (float)n[2], step = single_zero + (float)n[3];
        base = single_zero + (float)n[4], scale = single_zero + (float)n[5];
        low = single_zero + (float)n[6], high = single_zero + (float)n[7];
    }
    template <class P>
    static inline typename P::Float at(typename P::Float product, typename P::Float y) {
        using Float = typename P::Float;
        const Float square = minus_two_log<P>(product, 0) + (typename P::Scalar)4;
        const Float s = root(square);
        Float ratio = horner(P::centre, s - P::centre_shift);
        if (wide) {
            const Float far = horner(P::tail, s - P::tail_shift);
            ratio = square > (typename P::Scalar)15 ? far : ratio;
        }
        return y * ratio;
    }
    inline void single(const U32 (&words)[4], F32 (&values)[4]) const {
        for (int w = 0; w < 4; w++) {
            const I32 cell = bits<I32>(words[w] >> 1);
            const F32 mass_below = __builtin_convertvector(cell, F32) * step + below;
            const F32 mass_above = __builtin_convertvector(cell ^ 0x7FFFFFFF, F32) * step + above;
            const F32 y = __builtin_convertvector(cell - 0x40000000, F32) * step + middle;
            const F32 z = at<Single>(mass_below * mass_above, y);
            values[w] = minimum(maximum(z * scale + base, low), high);
        }
    }
    inline void twice(const H32 (&words)[4], F64 (&values)[2]) const {
        for (int h = 0; h < 2; h++) {
            // The top bit flipped: an unsigned word less 2**31.
            const H32 flipped = words[2 * h] ^ (int32_t)sign_bit;
            const F64 centred = signed_cells(flipped, words[2 * h + 1]);
            const F64 mass_below = (centred + 0x1p52) * step_64 + below_64;
            const F64 mass_above = ((0x1p52 - 1.0) - centred) * step_64 + above_64;
            const F64 y = centred * step_64 + middle_64;
            const F64 z = at<Double>(mass_below * mass_above, y);
            values[h] = minimum(maximum(z * scale_64 + base_64, low_64), high_64);
        }
    }
};

// The truncated normal by a polynomial fitted to its bounds.
template <Kind kind>
struct Fitted {
    bool lower;
    double n[10];
    float n_32[10];
    double coefficients[24];
    float coefficients_32[10];

    explicit Fitted(const Draw &draw) {
        lower = draw.numbers[0] != 0;
        for (int i = 0; i < 10; i++) {
            n[i] = draw.numbers[i], n_32[i] = (float)n[i];
            coefficients_32[i] = (float)draw.numbers[10 + i];
        }
        for (int i = 0; i < 24; i++) coefficients[i] = draw.numbers[10 + i];
    }
    template <class P, class T, int N>
    static inline typename P::Float at(typename P::Float fraction, typename P::Float cell,
                                       const T (&n)[10], const T (&coefficients)[N]) {
        const typename P::Float zero = {};
        typename P::Float u = fraction;
        if (kind != Kind::fitted_narrow) {
            u = minus_two_log<P>(cell * n[2] + n[1], 0);
            if (kind == Kind::fitted_root) u = root(u + n[3]);
            u = (u - n[4]) * n[5];
        }
        const typename P::Float value = horner(coefficients, u) * n[7] + n[6];
        return minimum(maximum(value, zero + n[8]), zero + n[9]);
    }
    inline void single(const U32 (&words)[4], F32 (&values)[4]) const {
        for (int w = 0; w < 4; w++) {
            const I32 from_low = bits<I32>(words[w] >> 1);
            const I32 cell = lower ? from_low : from_low ^ 0x7FFFFFFF;
            const F32 fraction = __builtin_convertvector(from_low - 0x40000000, F32) * 0x1p-30f;
            values[w] = at<Single>(fraction, __builtin_convertvector(cell, F32), n_32,
                                   coefficients_32);
        }
    }
    inline void twice(const H32 (&words)[4], F64 (&values)[2]) const {
        for (int h = 0; h < 2; h++) {
            const H32 flipped = words[2 * h] ^ (int32_t)sign_bit;
            const F64 centred = signed_cells(flipped, words[2 * h + 1]);
            const F64 cell = lower ? centred + 0x1p52 : (0x1p52 - 1.0) - centred;
            values[h] = at<Double>(centred * 0x1p-52, cell, n, coefficients);
        }
    }
};

// The upper 31 bits of one word above all of the next.
struct Integers {
    explicit Integers(const Draw &) {}
    inline void twice(const H32 (&words)[4], I64 (&values)[2]) const {
        for (int h = 0; h < 2; h++) {
            const UH32 high = (UH32)words[2 * h] >> 1, low = (UH32)words[2 * h + 1];
            values[h] = (__builtin_convertvector(high, I64) << 32) |
                        __builtin_convertvector(low, I64);
        }
    }
};

}  // namespace
