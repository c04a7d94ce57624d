"""Maxima of windows that have something in common, against drawn normals."""

import numpy as np
import pytest

from fanin.propagation.maxima import correlation_of_maxima


@pytest.mark.parametrize("count", [2, 4, 9, 16])
@pytest.mark.parametrize(("same", "across"), [(0.2, 0.2), (0.4, 0.0), (0.7, 0.3), (0.9, 0.1)])
def test_maxima_of_two_windows(count, same, across):
    # 2·10⁵ windows: the correlation is known to 1/√n = 0.002; the law is good to 0.02.
    rng = np.random.default_rng(count)
    runs = 200_000
    shared = np.sqrt(across) * rng.standard_normal((runs, 1))
    place = np.sqrt(same - across) * rng.standard_normal((runs, count))
    one, two = (
        (shared + place + np.sqrt(1 - same) * rng.standard_normal((runs, count))).max(axis=1)
        for _ in range(2)
    )
    truth = np.corrcoef(one, two)[0, 1]
    found = correlation_of_maxima(np.array([same]), np.array([across]), count)
    assert float(found[0]) == pytest.approx(truth, abs=0.025)
