#define FANIN_LANES 8
#define FANIN_ENTRY fill_run_avx2
#include "run.h"
