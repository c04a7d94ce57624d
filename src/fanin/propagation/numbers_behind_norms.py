"""How many independent numbers and weights made the power that a recorded norm divides by.

The numbers are those that its statistics run over; where a batch norm alone reads a convolution or
a matrix product, the few weights of each channel have a part in its power, and the gradient meets
them again on its way back through them.
"""

from collections.abc import Sequence

import numpy as np

from fanin.propagation.call import Call
from fanin.propagation.common_places import Mode, spread_of_modes
from fanin.propagation.few import rows_apart, spread_of_power, varies
from fanin.propagation.layout import atom_range
from fanin.propagation.norm_neighbours import norm_behind, normalised_by_channel, product_behind
from fanin.propagation.norm_power import NormPower
from fanin.propagation.norm_settings import ROW_NORMS, NormSettings
from fanin.propagation.quadrature import NODES, expectation
from fanin.propagation.state import State
from fanin.propagation.taps import behind_padding, inverse_taps_of_places, reads_of_taps


def power_of_norm(
    call: Call, view: State, settings: NormSettings, power: float, modes: Sequence[Mode] = ()
) -> NormPower:
    """What a recorded norm divides by.

    Args:
        call: the norm.
        view: its input under the axes that the statistics run over.
        settings: of the norm.
        power: q.
        modes: directions of the numbers, where they are few.
    """
    source = call.tensor(0)
    bounded = spread_of_power(view.pairs, view.axes, settings.dims, settings.centre)
    spread = spread_of_modes(modes) if modes else bounded
    weights = uneven = 0.0
    if call.name in ROW_NORMS and source is not None:
        spread, weights = rows_apart(varies(call, source, spread, 12), spread)
    behind = None if source is None else product_behind(call, source)
    if behind is not None and call.name not in ROW_NORMS:
        weights, uneven, factor = _by_weights(behind)
        spread *= factor
    return NormPower(power, settings.eps, min(spread, 2.0), weights, uneven, bounded)


def _by_weights(call: Call) -> tuple[float, float, float]:
    """What few weights do to the numbers of a channel that a batch norm alone reads.

    A number Σ w x of n terms holds Σ w² x² and products of different terms; of its power's spread
    the share Σ w⁴/(Σ w²)², 3/(n + 2) on average, is that of x², and so much of the kurtosis of x
    is left.

    Returns:
        Relative variances of W among the channels and of the powers of a channel's numbers (at the
        border of a small map each place reads some of the weights), and the spread of S over that
        of Gaussian numbers.
    """
    reader = norm_behind(call)
    position = 1 if call.name == "addmm" else 0
    weight = call.state(position + 1)
    convolves = call.name == "convolution"
    x = behind_padding(call)[0] if convolves else call.state(position)
    if reader is None or weight.known is not None or x.variance <= 0:
        return 0.0, 0.0, 1.0
    if weight.mean**2 > 0.01 * weight.second_moment:
        return 0.0, 0.0, 1.0
    channels = weight.shape[1] if convolves else weight.shape[0]
    axis = len(x.shape) - len(weight.shape) + 1 if convolves else len(x.shape) - 1
    inputs = channels / (1 + (channels - 1) * _alike(x, axis) ** 2)
    together = alone = 2 / inputs
    if convolves:
        reads = reads_of_taps(call)
        together, alone = 2.0, 2 / inputs * inverse_taps_of_places(call)
        if reads.any():
            together = 2 / max(inputs * float(reads.sum() ** 2 / (reads**2).sum()), 1.0)
    places = max(alone - together, 0.0)
    own = 3 / (2 / alone + 2)
    squares = (x.values - x.mean) ** 2
    variance = expectation(squares)
    kurtosis = expectation(squares**2) / variance**2
    held = kurtosis - 1
    if channels == 1 and normalised_by_channel(call):
        # Of the same channel the norm before has fixed the mean square.
        held -= (expectation(squares * NODES**2) / variance - 1) ** 2 / 2
    uneven = places + own * max(kurtosis / 3 - 1, 0.0)
    return together, uneven, (1 - own) * (1 + places) + own * held / 2


def _alike(state: State, axis: int) -> float:
    """Correlation of two channels, over samples and positions: copies of one count as one."""
    inside = atom_range(state.axes, axis)
    if not inside:
        return 0.0
    elsewhere = tuple(int(p not in inside) for p in range(state.pairs.ndim))
    other = tuple(int(p in inside) for p in range(state.pairs.ndim))
    both = (1,) * state.pairs.ndim
    own = state.second_moment - float(state.pairs[elsewhere])
    shared = float(state.pairs[other]) - float(state.pairs[both])
    return float(np.clip(shared / own, 0.0, 1.0)) if own > 0 else 0.0


def taken_back_by_weights(call: Call) -> float:
    """What the gradient behind a convolution is less than strangers would give.

    A batch norm divides it by small powers where the channel's weights happen to be small; the
    same small weights take it back on the way to the convolution's input.
    """
    reader = norm_behind(call)
    found: NormPower | None = None if reader is None else call.parts.kept(reader, "divided")
    return 1.0 if found is None else found.taken_back
