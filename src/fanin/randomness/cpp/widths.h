// The kernels of every vector width that this processor runs, narrowest first.
#pragma once

#include <string>
#include <vector>

#include "job.h"

namespace fanin {

struct Width {
    std::string name;
    FillRun fill_run;
};

const std::vector<Width> &widths();

}  // namespace fanin
