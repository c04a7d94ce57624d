#define FANIN_LANES 16
#define FANIN_ENTRY fill_run_avx512
#include "run.h"
