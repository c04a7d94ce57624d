// Logarithm, sine, cosine and Horner's rule, operation by operation as in elementary.py.
#pragma once

#include "polynomials.h"
#include "vectors.h"

namespace {

// One precision: its vectors, bit patterns and polynomials.
struct Single {
    using Float = F32;
    using Int = I32;
    using Scalar = float;
    static constexpr int mantissa_bits = 23;
    static constexpr int32_t root_half = 0x3F3504F3, mantissa = 0x7FFFFF;
    static constexpr float minus_two_ln2 = -1.3862943649291992f;
    static constexpr auto &log = polynomials::log_32;
    static constexpr auto &sin = polynomials::sin_32;
    static constexpr auto &cos = polynomials::cos_32;
    static constexpr auto &centre = polynomials::centre_32;
    static constexpr auto &tail = polynomials::tail_32;
    static constexpr float centre_shift = polynomials::centre_shift_32;
    static constexpr float tail_shift = polynomials::tail_shift_32;
    static inline F32 number(I32 x) { return __builtin_convertvector(x, F32); }
};
struct Double {
    using Float = F64;
    using Int = I64;
    using Scalar = double;
    static constexpr int mantissa_bits = 52;
    static constexpr int64_t root_half = 0x3FE6A09E667F3BCD, mantissa = 0xFFFFFFFFFFFFF;
    static constexpr double minus_two_ln2 = -1.3862943611198906;
    static constexpr auto &log = polynomials::log_64;
    static constexpr auto &sin = polynomials::sin_64;
    static constexpr auto &cos = polynomials::cos_64;
    static constexpr auto &centre = polynomials::centre_64;
    static constexpr auto &tail = polynomials::tail_64;
    static constexpr double centre_shift = polynomials::centre_shift_64;
    static constexpr double tail_shift = polynomials::tail_shift_64;
    // The integers that come here are exponents: they fit 32 bits, which every machine converts.
    static inline F64 number(I64 x) {
        return __builtin_convertvector(__builtin_convertvector(x, H32), F64);
    }
};

template <class V, class T, int N>
inline V horner(const T (&c)[N], V x) {
    V value = x * c[N - 1] + c[N - 2];
#pragma GCC unroll 32
    for (int k = N - 3; k >= 0; k--) value = value * x + c[k];
    return value;
}

// -2 ln(x / 2**exponent) for positive normal x.
template <class P>
inline typename P::Float minus_two_log(typename P::Float x, int exponent) {
    using Float = typename P::Float;
    using Int = typename P::Int;
    const auto offset = P::root_half + ((decltype(P::mantissa))exponent << P::mantissa_bits);
    const Int above = bits<Int>(x) - offset;
    const Float k = P::number(above >> P::mantissa_bits);
    const Float t = bits<Float>((above & P::mantissa) + P::root_half) - (typename P::Scalar)1;
    return k * P::minus_two_ln2 + t * horner(P::log, t);
}

template <class P>
inline void sin_cos_half_turn(typename P::Float x, typename P::Float &sine,
                              typename P::Float &cosine) {
    const auto square = x * x;
    sine = x * horner(P::sin, square);
    cosine = ((typename P::Scalar)1 - square) * horner(P::cos, square);
}

}  // namespace
