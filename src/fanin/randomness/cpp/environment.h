// The floating-point environment that the numbers are defined in.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#else
#include <cfenv>
#endif

namespace fanin {

// Subnormals and rounding follow the floating-point environment, which the program may have
// changed; the numbers may not.  The default one holds while an object of this class lives.
class DefaultEnvironment {
public:
#if defined(__x86_64__)
    // The vector units' register alone: saving x87's as well, which computes nothing here, would
    // take longer than a small tensor.
    DefaultEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(all_masked_to_nearest); }
    ~DefaultEnvironment() { _mm_setcsr(saved_); }

private:
    static constexpr unsigned all_masked_to_nearest = 0x1f80;
    unsigned saved_;
#else
    DefaultEnvironment() {
        std::fegetenv(&saved_);
        std::fesetenv(FE_DFL_ENV);
    }
    ~DefaultEnvironment() { std::fesetenv(&saved_); }

private:
    std::fenv_t saved_;
#endif
};

}  // namespace fanin
