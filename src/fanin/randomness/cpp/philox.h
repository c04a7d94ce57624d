// The words of a tile: 16 consecutive Philox4x32 blocks, LANES at a time.
#pragma once

#include "vectors.h"

namespace {

#ifndef FANIN_ROUNDS
#define FANIN_ROUNDS 7
#endif
constexpr int rounds = FANIN_ROUNDS;
constexpr uint32_t multiplier_0 = 0xD2511F53u, multiplier_1 = 0xCD9E8D57u;
constexpr uint32_t key_step_0 = 0x9E3779B9u, key_step_1 = 0xBB67AE85u;

inline uint64_t product(uint32_t a, uint32_t b) { return (uint64_t)a * b; }

// Everything that stays the same over the blocks whose numbers share their upper 32 bits.  The
// first round meets constants in two of its four words and the second round in one product, so
// half of the first and a quarter of the second are done here, once.
struct Stream {
    U64 keys_0[rounds], keys_1[rounds];
    U64 second_0, second_1;

    Stream(uint64_t key, uint32_t block_high, uint32_t purpose) {
        const U64 zero = {};
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        const uint64_t purpose_product = product(multiplier_1, purpose);
        const uint32_t c0 = (uint32_t)(purpose_product >> 32) ^ block_high ^ k0;
        const uint64_t constant_product = product(multiplier_0, c0);
        for (int r = 0; r < rounds; r++) {
            keys_0[r] = zero + k0, keys_1[r] = zero + k1;
            k0 += key_step_0, k1 += key_step_1;
        }
        // Second round: c0 = hi(p1) ^ lo(purpose product) ^ k0 and c2 = hi(constant) ^ c3 ^ k1.
        second_0 = keys_0[1] ^ (zero + (uint32_t)purpose_product);
        second_1 = keys_1[1] ^ (zero + (constant_product >> 32));
        // Third round: c2 = hi(p0) ^ lo(constant product) ^ k1.
        keys_1[2] ^= zero + (uint32_t)constant_product;
    }

    // Four words of LANES blocks.  `p0` holds multiplier_0 times the lower halves of the blocks'
    // numbers, of the even and of the odd ones: the first product, which steps by addition.
    // Of each 64-bit lane only the lower half counts; the upper holds leftovers that the
    // multiply ignores.
    inline void words(const U64 (&p0)[2], U32 (&out)[4]) const {
        U64 c[2][4];
        const U64 m0 = U64{} + multiplier_0, m1 = U64{} + multiplier_1;
        for (int half = 0; half < 2; half++) {
            const U64 c2 = (p0[half] >> 32) ^ keys_1[0], c3 = p0[half];
            const U64 p1 = multiply(c2, m1);
            c[half][0] = (p1 >> 32) ^ second_0;
            c[half][1] = p1;
            c[half][2] = c3 ^ second_1;
        }
        for (int half = 0; half < 2; half++) {
            const U64 q0 = multiply(c[half][0], m0), q1 = multiply(c[half][2], m1);
            c[half][0] = xor3(q1 >> 32, c[half][1], keys_0[2]);
            c[half][1] = q1;
            c[half][2] = (q0 >> 32) ^ keys_1[2];
            c[half][3] = q0;
        }
#pragma GCC unroll 16
        for (int r = 3; r < rounds; r++) {
            for (int half = 0; half < 2; half++) {
                const U64 q0 = multiply(c[half][0], m0), q1 = multiply(c[half][2], m1);
                c[half][0] = xor3(q1 >> 32, c[half][1], keys_0[r]);
                c[half][1] = q1;
                c[half][2] = xor3(q0 >> 32, c[half][3], keys_1[r]);
                c[half][3] = q0;
            }
        }
        for (int word = 0; word < 4; word++) out[word] = interleave(c[0][word], c[1][word]);
    }
};

}  // namespace
