#include "widths.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fanin {

void fill_run_baseline(const Draw &, uint64_t, uint64_t, void *);
void fill_run_avx2(const Draw &, uint64_t, uint64_t, void *);
void fill_run_avx512(const Draw &, uint64_t, uint64_t, void *);

namespace {

std::vector<Width> find_widths() {
#if defined(__x86_64__)
    std::vector<Width> found{{"baseline", fill_run_baseline}};
    __builtin_cpu_init();
    unsigned a, b, c = 0, d;
    const bool has_f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
    if (__builtin_cpu_supports("avx2") && has_f16c) found.push_back({"avx2", fill_run_avx2});
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        found.push_back({"avx512", fill_run_avx512});
    }
    return found;
#else
    return {{"neon", fill_run_baseline}};
#endif
}

}  // namespace

const std::vector<Width> &widths() {
    static const std::vector<Width> found = find_widths();
    return found;
}

}  // namespace fanin
