/* The raw words of fanin's stream, in the order in which elements take them, through TestU01.
 *
 *   stream ROUNDS ORDER BATTERY [KEYS]
 *
 * ROUNDS   7 or 10
 * ORDER    elements  one tensor's words, element after element
 *          reversed  the same with the bits of every word reversed (TestU01 looks at high bits)
 *          names     one tile (64 words) of each of many tensors in turn; their 64-bit keys are
 *                    read from the file KEYS, as fanin.randomness.Address.key gives them
 * BATTERY  small, crush, big, or crush:N, which runs test N of Crush ten times further along the
 *          stream: what a p-value that looks suspicious calls for
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <testu01/bbattery.h>
#include <testu01/swrite.h>
#include <testu01/unif01.h>

static uint64_t *keys, key_count = 1, key_index, tile;
static int rounds, reversed, position = 64;
static uint32_t words[64];

static void fill_tile(void) {
    const uint64_t key = keys[key_index];
    for (int j = 0; j < 16; j++) {
        const uint64_t block = 16 * tile + (uint64_t)j;
        uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = 0, c3 = 0;
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int r = 0; r < rounds; r++) {
            const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        words[j] = c0, words[16 + j] = c1, words[32 + j] = c2, words[48 + j] = c3;
    }
    if (++key_index == key_count) key_index = 0, tile++;
    position = 0;
}

static uint32_t reverse(uint32_t x) {
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0F0F0F0Fu) | (x & 0x0F0F0F0Fu) << 4;
    return __builtin_bswap32(x);
}

static unsigned int next(void) {
    if (position == 64) fill_tile();
    const uint32_t word = words[position++];
    return reversed ? reverse(word) : word;
}

int main(int argc, char **argv) {
    static uint64_t one_key[1] = {0x243F6A8885A308D3ull};
    if (argc < 4) return fprintf(stderr, "stream ROUNDS ORDER BATTERY [KEYS]\n"), 2;
    rounds = atoi(argv[1]);
    reversed = !strcmp(argv[2], "reversed");
    keys = one_key;
    if (!strcmp(argv[2], "names")) {
        FILE *file = argc > 4 ? fopen(argv[4], "rb") : NULL;
        if (!file) return fprintf(stderr, "names needs the file KEYS\n"), 2;
        keys = malloc(8u << 20);
        key_count = fread(keys, 8, 1u << 20, file);
        fclose(file);
        if (key_count == 0) return fprintf(stderr, "KEYS is empty\n"), 2;
    }
    swrite_Basic = FALSE;
    char name[100];
    snprintf(name, sizeof name, "fanin philox4x32-%d %s", rounds, argv[2]);
    unif01_Gen *generator = unif01_CreateExternGenBits(name, next);
    if (!strcmp(argv[3], "small")) bbattery_SmallCrush(generator);
    else if (!strcmp(argv[3], "crush")) bbattery_Crush(generator);
    else if (!strcmp(argv[3], "big")) bbattery_BigCrush(generator);
    else if (!strncmp(argv[3], "crush:", 6)) {
        int repeats[200] = {0};
        const int test = atoi(argv[3] + 6);
        if (test < 1 || test > 96) return fprintf(stderr, "Crush has tests 1 to 96\n"), 2;
        repeats[test] = 10;
        bbattery_RepeatCrush(generator, repeats);
        for (int i = 0; i < bbattery_NTests; i++) printf("p = %.4g\n", bbattery_pVal[i]);
    }
    else return fprintf(stderr, "BATTERY is small, crush or big\n"), 2;
    unif01_DeleteExternGenBits(generator);
    return 0;
}
