"""Rows of a stream that hold nothing but a branch are divided by that branch's power.

Narrow branches differ in power from row to row and draw to draw: 1/s² of 14 numbers behind 20
skewed ones is on average 1.5 times 1/E[s²]. 80 draws of 32 weak rows leave its root 3 %.
"""

import pytest
import torch
from building_blocks import Module, batch, dense
from checks import predicted_and_measured
from torch.nn import functional as F  # noqa: N812


@pytest.mark.parametrize(("width", "hidden"), [(14, 20), (22, 30)])
def test_weak_rows_are_divided_by_what_their_branch_has(width, hidden):
    def run(m, x):
        strong = torch.cat([torch.zeros(len(x), 4, width), m.embed(x[:, 4:])], 1)
        branch = 0.2 * m.down(F.gelu(m.up(F.layer_norm(m.own(x), (width,)))))
        return m.head(F.layer_norm(strong + branch, (width,)))

    def build():
        return Module(
            run,
            embed=dense(width, width),
            own=dense(width, width),
            up=dense(width, hidden),
            down=dense(hidden, width),
            head=dense(width, 256),
        )

    rows = predicted_and_measured(build, batch(8, 10, width), draws=80, recipe="lecun_normal")
    sums = [(g, t) for s, _, _, g, t in rows if s.operation == "add" and t is not None]
    assert len(sums) == 1
    assert sums[0][0] == pytest.approx(sums[0][1], rel=0.07)
