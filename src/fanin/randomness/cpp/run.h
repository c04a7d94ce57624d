// A run of consecutive elements: tile by tile, whole tiles straight to their place.
//
// Included once per vector width; FANIN_ENTRY names the function that the pool calls.
#pragma once

#include "job.h"
#include "laws.h"
#include "philox.h"

namespace {

using fanin::Dtype;

constexpr int blocks_per_tile = 16;
constexpr int parts = blocks_per_tile / lanes;

inline void put(float *out, F32 value) { store(out, value); }
struct Bfloat {
    uint16_t all;
};
struct Half {
    uint16_t all;
};
inline void put(Bfloat *out, F32 value) { store(out, to_bfloat(value)); }
inline void put(Half *out, F32 value) { store(out, to_half(value)); }

// Elements of one tile, and the purpose word of the counter.
template <class T>
struct Layout {
    static constexpr uint64_t tile = 64;
    static constexpr uint32_t purpose = 0;
};
template <>
struct Layout<double> {
    static constexpr uint64_t tile = 32;
    static constexpr uint32_t purpose = 1;
};

template <class Law, class T>
inline void write(const Law &law, const U32 (&words)[4], int part, T *out) {
    F32 values[4];
    law.single(words, values);
    for (int w = 0; w < 4; w++) put(out + blocks_per_tile * w + lanes * part, values[w]);
}

template <>
struct Layout<int64_t> {
    static constexpr uint64_t tile = 32;
    static constexpr uint32_t purpose = 2;
};

// The vector of the 64-bit values of one half of the lanes.
template <class T>
struct WideOf;
template <>
struct WideOf<double> {
    using type = F64;
};
template <>
struct WideOf<int64_t> {
    using type = I64;
};

template <class Law, class T>
inline void write_twice(const Law &law, const U32 (&words)[4], int part, T *out) {
    for (int side = 0; side < 2; side++) {
        H32 half_words[4];
        for (int w = 0; w < 4; w++) {
            uint32_t all[lanes];
            store(all, words[w]);
            half_words[w] = load<H32>(all + side * (lanes / 2));
        }
        typename WideOf<T>::type values[2];
        law.twice(half_words, values);
        for (int h = 0; h < 2; h++) {
            store(out + blocks_per_tile * h + lanes * part + side * (lanes / 2), values[h]);
        }
    }
}

template <class Law>
inline void write(const Law &law, const U32 (&words)[4], int part, double *out) {
    write_twice(law, words, part, out);
}
template <class Law>
inline void write(const Law &law, const U32 (&words)[4], int part, int64_t *out) {
    write_twice(law, words, part, out);
}

// Tiles first … first + count - 1 of one stream, whose blocks share their upper 32 bits.
template <class Law, class T>
void write_tiles(const Law &law, uint64_t key, uint64_t first, uint64_t count, T *out) {
    const uint64_t block = first * blocks_per_tile;
    const Stream stream(key, (uint32_t)(block >> 32), Layout<T>::purpose);
    U64 products[parts][2];
    for (int part = 0; part < parts; part++) {
        for (int half = 0; half < 2; half++) {
            for (int lane = 0; lane < lanes / 2; lane++) {
                const uint32_t low = (uint32_t)block + (uint32_t)(lanes * part + 2 * lane + half);
                products[part][half][lane] = product(multiplier_0, low);
            }
        }
    }
    for (uint64_t tile = 0; tile < count; tile++, out += Layout<T>::tile) {
        for (int part = 0; part < parts; part++) {
            U32 words[4];
            stream.words(products[part], words);
            write(law, words, part, out);
            products[part][0] += (uint64_t)multiplier_0 * blocks_per_tile;
            products[part][1] += (uint64_t)multiplier_0 * blocks_per_tile;
        }
    }
}

template <class Law, class T>
void write_run(const Draw &draw, uint64_t first, uint64_t count, T *out) {
    constexpr uint64_t size = Layout<T>::tile;
    // Upper halves of block numbers change every 2**28 tiles.
    constexpr uint64_t span = uint64_t(1) << 28;
    const Law law(draw);
    uint64_t tile = first / size;
    const uint64_t skipped = first % size;
    if (skipped != 0 || count < size) {
        T buffer[size];
        const uint64_t here = count < size - skipped ? count : size - skipped;
        write_tiles(law, draw.key, tile++, 1, buffer);
        std::memcpy((void *)out, buffer + skipped, here * sizeof(T));
        out += here, count -= here;
    }
    while (count >= size) {
        uint64_t tiles = count / size;
        if (tiles > span - tile % span) tiles = span - tile % span;
        write_tiles(law, draw.key, tile, tiles, out);
        tile += tiles, out += tiles * size, count -= tiles * size;
    }
    if (count > 0) {
        T buffer[size];
        write_tiles(law, draw.key, tile, 1, buffer);
        std::memcpy((void *)out, buffer, count * sizeof(T));
    }
}

template <class Law>
void write_as(const Draw &draw, uint64_t first, uint64_t count, void *out) {
    switch (draw.dtype) {
        case Dtype::float32: return write_run<Law>(draw, first, count, (float *)out);
        case Dtype::bfloat16: return write_run<Law>(draw, first, count, (Bfloat *)out);
        case Dtype::float16: return write_run<Law>(draw, first, count, (Half *)out);
        case Dtype::float64: return write_run<Law>(draw, first, count, (double *)out);
        case Dtype::int64: return;  // of the integers alone
    }
}

}  // namespace

namespace fanin {

void FANIN_ENTRY(const Draw &draw, uint64_t first, uint64_t count, void *out) {
    switch (draw.kind) {
        case Kind::uniform: return write_as<Uniform>(draw, first, count, out);
        case Kind::normal: return write_as<Normal>(draw, first, count, out);
        case Kind::quantile: return write_as<Quantile<false>>(draw, first, count, out);
        case Kind::quantile_wide: return write_as<Quantile<true>>(draw, first, count, out);
        case Kind::fitted_narrow:
            return write_as<Fitted<Kind::fitted_narrow>>(draw, first, count, out);
        case Kind::fitted_tail: return write_as<Fitted<Kind::fitted_tail>>(draw, first, count, out);
        case Kind::fitted_root: return write_as<Fitted<Kind::fitted_root>>(draw, first, count, out);
        case Kind::integers: return write_run<Integers>(draw, first, count, (int64_t *)out);
    }
}

}  // namespace fanin
