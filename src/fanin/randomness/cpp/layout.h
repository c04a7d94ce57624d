// Where the elements of one fill come from and go to, as runs along the last axis.
#pragma once

#include <vector>

#include "job.h"

namespace fanin {

// One axis of the target: how many, how far apart in the whole tensor's row-major numbering, and
// how far apart in the target's memory, in elements.
struct Axis {
    uint64_t size;
    int64_t element_step, target_step;
};

class Layout {
public:
    Layout(uint64_t first, std::vector<Axis> axes) : first_(first) {
        // Neighbouring axes that step alike are one longer axis; single ones are none.
        for (const Axis &axis : axes) {
            if (axis.size == 1) continue;
            const auto span = (int64_t)axis.size;
            if (!axes_.empty() && axes_.back().element_step == axis.element_step * span &&
                axes_.back().target_step == axis.target_step * span) {
                axes_.back() = {axes_.back().size * axis.size, axis.element_step,
                                axis.target_step};
            } else {
                axes_.push_back(axis);
            }
        }
        if (axes_.empty()) axes_.push_back({1, 1, 1});
        for (const Axis &axis : axes_) count_ *= axis.size;
    }

    uint64_t count() const { return count_; }

    // Calls run(first element, element step, target offset, target step, count) for the
    // elements begin … end - 1 of the target, counted row-major.
    template <class Run>
    void walk(uint64_t begin, uint64_t end, Run run) const {
        const Axis &inner = axes_.back();
        while (begin < end) {
            uint64_t row = begin / inner.size;
            const uint64_t column = begin % inner.size;
            int64_t element = (int64_t)column * inner.element_step;
            int64_t target = (int64_t)column * inner.target_step;
            for (size_t axis = axes_.size() - 1; axis-- > 0;) {
                const auto index = (int64_t)(row % axes_[axis].size);
                row /= axes_[axis].size;
                element += index * axes_[axis].element_step;
                target += index * axes_[axis].target_step;
            }
            uint64_t here = inner.size - column;
            if (here > end - begin) here = end - begin;
            run(first_ + (uint64_t)element, (uint64_t)inner.element_step, target,
                inner.target_step, here);
            begin += here;
        }
    }

private:
    uint64_t first_, count_ = 1;
    std::vector<Axis> axes_;
};

// Draws the elements begin … end - 1 of the layout into `data`.
void fill_part(const Draw &draw, FillRun fill_run, const Layout &layout, uint64_t begin,
               uint64_t end, char *data);

}  // namespace fanin
