#define FANIN_LANES 4
#define FANIN_ENTRY fill_run_baseline
#include "run.h"
