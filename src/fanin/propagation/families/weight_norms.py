"""Weight normalisation: a direction and a length of its own for every output."""

import math

from fanin.propagation.algebra import aligned, multiplied
from fanin.propagation.call import Call
from fanin.propagation.factors import mover
from fanin.propagation.layout import fit
from fanin.propagation.registry import Pass, backward, forward
from fanin.propagation.state import State, constant, gaussian


@forward("_weight_norm_interface", "_weight_norm", leaves=True)
def weight_norm(call: Call) -> list[State | None]:
    """G · v / ‖v‖ per output: the direction keeps v's moments, the length is g's."""
    v, g = call.state(0), call.state(1)
    dim = int(call.raw(2, "dim", 0) or 0)
    count = math.prod(n for k, n in enumerate(v.shape) if k != dim)
    q = v.second_moment
    factor = 1 / (q * count) if q > 0 else 0.0
    direction = gaussian(v.axes, v.mean * factor**0.5, v.pairs * factor)
    call.parts.keep(call.operation, "factor", factor)
    made = multiplied(direction, g).with_flags(v, g)
    norm = constant(call.shape(1), (q * count) ** 0.5) if len(call.operation.outputs) > 1 else None
    return [made, norm]


@backward("_weight_norm_interface", "_weight_norm")
def weight_norm_backward(call: Call) -> list[Pass]:
    """To v: g/‖v‖ of what is not along v. To g: the part along v."""
    v, g, made = call.state(0), call.state(1), call.made()
    factor: float = call.parts.kept(call.operation, "factor")
    one, two = call.tensor(0), call.tensor(1)
    scale = aligned(made, g)[1].pairs * factor
    along = v.pairs * factor
    to = mover(made.axes, g.axes)
    passes = []
    if one is not None:
        passes.append(Pass(one, lambda p: fit(p * scale, made.axes, v.axes)))
    if two is not None:
        passes.append(Pass(two, lambda p: to(fit(p, made.axes, v.axes) * along)))
    return passes
