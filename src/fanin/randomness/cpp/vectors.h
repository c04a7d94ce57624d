// Vectors of LANES 32-bit numbers over GCC and Clang's vector extensions.  Operators on them are
// elementwise; only the 32 x 32 -> 64 multiply, the square root, min and max, and the conversion
// to float16 need the machine's own instruction, and stand here.
//
// Included by one file per vector width, which defines FANIN_LANES.  No standard header with
// inline functions may be included there: the linker could pick a copy compiled for a wider
// machine than the one that runs.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own intrinsics headers set these off (PR 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#else
#error "fanin's kernel knows x86-64 and AArch64; elsewhere the array program fills."
#endif

namespace {

constexpr int lanes = FANIN_LANES;

template <class T, int N>
struct VectorOf {
    typedef T type __attribute__((vector_size(sizeof(T) * N)));
    typedef T unaligned __attribute__((vector_size(sizeof(T) * N), aligned(1), may_alias));
};
template <class T, int N>
using Vector = typename VectorOf<T, N>::type;

using F32 = Vector<float, lanes>;
using I32 = Vector<int32_t, lanes>;
using U32 = Vector<uint32_t, lanes>;
using U16 = Vector<uint16_t, lanes>;
using U64 = Vector<uint64_t, lanes / 2>;
// Half as many: as many doubles as fit the same register.
using F64 = Vector<double, lanes / 2>;
using I64 = Vector<int64_t, lanes / 2>;
using H32 = Vector<int32_t, lanes / 2>;
using UH32 = Vector<uint32_t, lanes / 2>;

template <class To, class From>
inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bytes");
    return (To)from;
}

template <class V, class T>
inline V load(const T *from) {
    V value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <class V, class T>
inline void store(T *to, V value) {
    std::memcpy(to, &value, sizeof value);
}

#if defined(__x86_64__) && FANIN_LANES == 16

inline U64 multiply(U64 a, U64 b) { return (U64)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
// even | odd << 32 and a ^ b ^ c, each one instruction.
inline U32 interleave(U64 even, U64 odd) {
    return (U32)_mm512_mask_blend_epi32(0xAAAA, (__m512i)even, _mm512_slli_epi64((__m512i)odd, 32));
}
inline U64 xor3(U64 a, U64 b, U64 c) {
    return (U64)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
}
inline F32 root(F32 x) { return (F32)_mm512_sqrt_ps((__m512)x); }
inline F64 root(F64 x) { return (F64)_mm512_sqrt_pd((__m512d)x); }
inline F32 minimum(F32 a, F32 b) { return (F32)_mm512_min_ps((__m512)a, (__m512)b); }
inline F32 maximum(F32 a, F32 b) { return (F32)_mm512_max_ps((__m512)a, (__m512)b); }
inline U16 to_half(F32 x) { return (U16)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT); }
inline U16 narrow(U32 x) { return (U16)_mm512_cvtepi32_epi16((__m512i)x); }

#elif defined(__x86_64__) && FANIN_LANES == 8

inline U64 multiply(U64 a, U64 b) { return (U64)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
inline U32 interleave(U64 even, U64 odd) {
    return (U32)_mm256_blend_epi32((__m256i)even, _mm256_slli_epi64((__m256i)odd, 32), 0xAA);
}
inline U64 xor3(U64 a, U64 b, U64 c) { return a ^ b ^ c; }
inline F32 root(F32 x) { return (F32)_mm256_sqrt_ps((__m256)x); }
inline F64 root(F64 x) { return (F64)_mm256_sqrt_pd((__m256d)x); }
inline F32 minimum(F32 a, F32 b) { return (F32)_mm256_min_ps((__m256)a, (__m256)b); }
inline F32 maximum(F32 a, F32 b) { return (F32)_mm256_max_ps((__m256)a, (__m256)b); }
inline U16 to_half(F32 x) { return (U16)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT); }
inline U16 narrow(U32 x) {
    const __m128i low = _mm256_castsi256_si128((__m256i)x);
    return (U16)_mm_packus_epi32(low, _mm256_extracti128_si256((__m256i)x, 1));
}

#elif FANIN_LANES == 4

#if defined(__x86_64__)
inline U64 multiply(U64 a, U64 b) { return (U64)_mm_mul_epu32((__m128i)a, (__m128i)b); }
inline F32 root(F32 x) { return (F32)_mm_sqrt_ps((__m128)x); }
inline F64 root(F64 x) { return (F64)_mm_sqrt_pd((__m128d)x); }
inline F32 minimum(F32 a, F32 b) { return (F32)_mm_min_ps((__m128)a, (__m128)b); }
inline F32 maximum(F32 a, F32 b) { return (F32)_mm_max_ps((__m128)a, (__m128)b); }
#else
inline U64 multiply(U64 a, U64 b) {
    return (U64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
}
inline F32 root(F32 x) { return (F32)vsqrtq_f32((float32x4_t)x); }
inline F64 root(F64 x) { return (F64)vsqrtq_f64((float64x2_t)x); }
inline F32 minimum(F32 a, F32 b) { return (F32)vminq_f32((float32x4_t)a, (float32x4_t)b); }
inline F32 maximum(F32 a, F32 b) { return (F32)vmaxq_f32((float32x4_t)a, (float32x4_t)b); }
#endif
inline U32 interleave(U64 even, U64 odd) {
    return (U32)((even & 0xFFFFFFFFu) | (odd << 32));
}
inline U64 xor3(U64 a, U64 b, U64 c) { return a ^ b ^ c; }
inline U16 narrow(U32 x) { return __builtin_convertvector(x, U16); }
// Round to nearest even by integers; below 2**-14, where float16 has a fixed quantum of 2**-24,
// by adding 0.5, whose last place is just that.
inline U16 to_half(F32 x) {
    const U32 all = bits<U32>(x);
    const U32 sign = all & 0x80000000u, a = all ^ sign;
    const U32 normal = (a - (112u << 23) + 0xFFFu + ((a >> 13) & 1u)) >> 13;
    const U32 small = bits<U32>(bits<F32>(a) + 0.5f) - 0x3F000000u;
    U32 half = a < 0x38800000u ? small : normal;
    half = a >= 0x477FF000u ? U32{} + 0x7C00u : half;
    return narrow(half | (sign >> 16));
}

#endif

inline F64 minimum(F64 a, F64 b) { return a < b ? a : b; }
inline F64 maximum(F64 a, F64 b) { return a > b ? a : b; }

inline U16 to_bfloat(F32 x) {
    const U32 all = bits<U32>(x);
    return narrow((all + 0x7FFFu + ((all >> 16) & 1u)) >> 16);
}

}  // namespace
