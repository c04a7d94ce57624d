"""LSUV: every layer's output to unit standard deviation, in the order in which layers run."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from fanin.calibrating.factors import (
    Measured,
    listed,
    weights_to_measure,
    with_factors,
)
from fanin.calibrating.following import Follower
from fanin.calibrating.products import (
    Product,
    Products,
    blocks_of,
    holds,
    part_of,
    read_products,
)
from fanin.calibrating.scratch import Scratch
from fanin.calibrating.settings import require_setting
from fanin.errors import RecordError
from fanin.planning.assignment import Assignment, Plan
from fanin.planning.recipe import Base, DataRecipe


@dataclass(frozen=True, repr=False)
class LSUV(DataRecipe):
    """Layer-sequential unit variance.

    Args:
        tolerance: a layer is settled once its output's std is within this of 1.
        tries: how often one weight is rescaled at most.
        base: the recipe that draws the numbers.
    """

    tolerance: float = 0.1
    tries: int = 10
    base: Base = "orthogonal"

    name: ClassVar[str] = "lsuv"
    summary: ClassVar[str] = "Orthonormal, then every layer's output to unit std on a batch."
    paper: ClassVar[str] = "Mishkin & Matas, All you need is a good init, ICLR 2016"
    docs: ClassVar[str] = """\
Orthonormal weights, biases 0; then, in the order in which the layers run, each weight is divided by
the std of its output on the batch until |std − 1| < 0.1, at most 10 times. Any product of a weight
with data counts, wherever it stands in the graph: convolutions, residual writers, functional calls.
Packed weights (q, k and v; the gates of an LSTM) get one factor for each piece; a weight that is
used several times is measured over all uses. A recurrent matrix stays orthonormal, since it meets
its own output again. Where the output does not vary on the batch, the weight stays as drawn and
the reason says so.

The plan holds the factors, so that it is applied again without the batch. Settings:
`fanin.recipes.LSUV(tolerance=0.1, tries=10, base="orthogonal")`."""

    def __post_init__(self) -> None:
        require_setting(self, "tolerance", self.tolerance, above=0)
        require_setting(self, "tries", self.tries, above=0, whole=True)

    def calibrate(
        self, plan: Plan, model: nn.Module, inputs: Any, free: Collection[str], seed: int
    ) -> Plan:
        """Run, measure, divide, until every output is within the tolerance."""
        scratch = Scratch(plan, model, inputs, seed)
        weights, found = weights_to_measure(scratch, plan, free, "LSUV")
        search = _Search(self, scratch, weights)
        search.run()
        found |= {name: fit.measured(self) for name, fit in search.fits.items()}
        return with_factors(plan, found, (), inputs, seed)


RECIPE = LSUV()


@dataclass
class _Piece:
    """One weight, or one independent piece of it."""

    first: int
    size: int
    factor: float = 1.0
    before: float | None = None  # the std as drawn
    now: float | None = None  # the std last seen
    tries: int = 0
    count: int = 0  # pooled over the uses of one run
    mean: float = 0.0
    square: float = 0.0  # sum of squared deviations
    last: tuple[float, float] | None = None  # log factor and log std of the run before
    step: tuple[float, float] | None = None  # log std before the last scaling, log of its factor
    deaf: bool = False  # scaling the weight does not scale the output

    def pool(self, values: torch.Tensor) -> None:
        """Take the moments of one more use in."""
        variance, mean = (float(v) for v in torch.var_mean(values.double(), correction=0))
        n = values.numel()
        total, gap = self.count + n, mean - self.mean
        self.square += variance * n + gap * gap * self.count * n / total
        self.mean += gap * n / total
        self.count = total

    def pooled_std(self) -> float:
        """Over all uses since it was asked last."""
        std = math.sqrt(self.square / self.count) if self.count else float("nan")
        self.count, self.mean, self.square = 0, 0.0, 0.0
        return std


@dataclass
class _Fit:
    """What is known of one weight."""

    assignment: Assignment
    pieces: list[_Piece] = field(default_factory=list)
    uses: int = 0
    pooled: bool = False  # measured over all uses, and scaled between runs

    def measured(self, recipe: LSUV) -> Measured:
        """What the plan says of it."""
        stds = [p.before for p in self.pieces if p.before is not None]
        if not self.uses or not stds:
            return Measured("LSUV: as drawn: its product with data was not seen in the call")
        factors = [p.factor for p in self.pieces]
        shown, std = listed(stds), "stds" if len(stds) > 1 else "std"
        dead = [p for p in self.pieces if p.before == 0]
        if len(dead) == len(self.pieces):
            return Measured("LSUV: as drawn: its output does not vary on the batch (std 0)")
        if all(p.deaf for p in self.pieces):
            why = "what is computed from it divides its scale out"
            return Measured(f"LSUV: as drawn: {why} (output {std} {shown})")
        tries = max(p.tries for p in self.pieces)
        after = [p.now for p in self.pieces if p.now is not None and p.now > 0]
        over = f" over {self.uses} uses" if self.pooled and self.uses > 1 else ""
        evidence = [f"output {std} afterwards {listed(after)}{over}"]
        if dead:
            evidence.append(f"{len(dead)} of its pieces do not vary on the batch: as drawn")
        if not tries:
            reason = f"LSUV: output {std} {shown} on the batch, within {recipe.tolerance:g} of 1"
            return Measured(reason, None, tuple(evidence))
        passes = f"{tries} pass{'es' if tries > 1 else ''}"
        reason = f"LSUV: output {std} {shown} on the batch, so × {listed(factors)} ({passes})"
        if any(abs(s - 1) >= recipe.tolerance for s in after):
            reason += f"; still {listed(after)}"
        return Measured(
            reason, factors[0] if len(factors) == 1 else tuple(factors), tuple(evidence)
        )


class _Search:
    """The runs that find the factors."""

    def __init__(self, recipe: LSUV, scratch: Scratch, weights: Mapping[str, Assignment]) -> None:
        self.recipe, self.scratch = recipe, scratch
        self.fits = {name: _Fit(a) for name, a in weights.items()}
        self.changed = False

    def run(self) -> None:
        """Run until nothing changes any more, or every weight has had its tries."""
        weights = {name: fit.assignment for name, fit in self.fits.items()}
        if not weights:
            return
        products = read_products(self.scratch.run(), weights)
        for name, fit in self.fits.items():
            self._divide(name, fit, products)
        # A coupled weight moves what the others are measured on: they may need tries again.
        for _ in range(self.recipe.tries * (1 + len(products.coupled)) + 1):
            self.changed = False
            follower = Follower(products, self._visit)
            graph = self.scratch.run(follower)
            for fit in self.fits.values():
                self._settle_pooled(fit)
            if not self.changed and not follower.lost:
                return
            if follower.lost:
                products = read_products(graph, weights)

    def _divide(self, name: str, fit: _Fit, products: Products) -> None:
        """Into pieces that can be measured and scaled on their own."""
        uses = products.of(name)
        fit.uses = len(uses)
        units = self.scratch.per_unit(fit.assignment)
        told_apart = bool(uses) and all(p.axis is not None for p in uses)
        pieces = blocks_of(fit.assignment, units if told_apart else 0)
        fit.pieces = [_Piece(first, size) for first, size in pieces]
        whole = all(any(holds(use, p.first, p.size) for use in uses) for p in fit.pieces)
        fit.pooled = name in products.coupled or len(uses) > len(fit.pieces) or not whole

    def _visit(self, product: Product, out: torch.Tensor) -> None:
        fit = self.fits.get(product.weight)
        if fit is None or not out.numel():
            return
        bias = self._bias(product)
        for piece in fit.pieces:
            part, shift = part_of(product, piece.first, piece.size, out, bias)
            if part is None or piece.deaf:
                continue
            if product.computed and self._is_deaf(piece, part):
                piece.deaf = True
                self._scale(fit, piece, 1.0 / piece.factor)
            elif fit.pooled:
                piece.pool(part)
            else:
                self._settle(fit, piece, part, shift)

    def _is_deaf(self, piece: _Piece, out: torch.Tensor) -> bool:
        """Whether the last scaling moved the output by less than half of what it should have."""
        if piece.step is None:
            return False
        before, factor = piece.step
        std = float(out.std(correction=0))
        off = abs(std - 1) >= self.recipe.tolerance
        return std > 0 and off and (math.log(std) - before) / factor < 0.5

    def _bias(self, product: Product) -> torch.Tensor | None:
        if product.bias is None:
            return None
        values = self.scratch.parameters[product.bias].detach()
        return values if bool(values.any()) else None

    def _settle(
        self, fit: _Fit, piece: _Piece, out: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        """The paper's loop, on one output: the weight scales all of it but the bias."""
        product = out if bias is None else out - bias
        factor, shown = 1.0, out
        while True:
            std = self._checked(fit, float(shown.std(correction=0)))
            if shown is out and bias is None:
                # What comes before may have changed since: the std as drawn is told anew.
                piece.before = std / piece.factor
            self._note(piece, std)
            if std == 0 or abs(std - 1) < self.recipe.tolerance or piece.tries >= self.recipe.tries:
                break
            factor /= std
            piece.tries += 1
            shown = product * factor if bias is None else product * factor + bias
        if factor != 1.0:
            piece.step = (math.log(float(out.std(correction=0))), math.log(factor))
            out.copy_(shown)
            self._scale(fit, piece, factor)

    def _settle_pooled(self, fit: _Fit) -> None:
        """One step for a weight that is scaled between runs.

        Its output grows as a power of its scale (a layer used k times in a row: up to the k-th),
        so the step is taken in logarithms, with the power that the last two runs show.
        """
        for piece in fit.pieces if fit.pooled else ():
            if not piece.count:
                continue
            std = self._checked(fit, piece.pooled_std())
            self._note(piece, std)
            if std == 0 or abs(std - 1) < self.recipe.tolerance or piece.tries >= self.recipe.tries:
                continue
            power, here = float(max(fit.uses, 1)), (math.log(piece.factor), math.log(std))
            if piece.last is not None and here[0] != piece.last[0]:
                slope = (here[1] - piece.last[1]) / (here[0] - piece.last[0])
                power = min(max(slope, 0.25), 4.0 * fit.uses) if slope > 0 else 1.0
            piece.last = here
            piece.tries += 1
            self._scale(fit, piece, std ** (-1.0 / power))

    def _note(self, piece: _Piece, std: float) -> None:
        piece.now = std
        if piece.before is None:
            piece.before = std

    def _checked(self, fit: _Fit, std: float) -> float:
        if not math.isfinite(std):
            raise RecordError(
                f"LSUV: the output of {fit.assignment.parameter!r} is not finite on this batch. "
                "Look for the operation that makes it so with fanin.check(model, batch), or start "
                "from another base: fanin.recipes.LSUV(base='kaiming_normal')."
            )
        return std

    def _scale(self, fit: _Fit, piece: _Piece, factor: float) -> None:
        self.changed = True
        piece.factor *= factor
        factors = torch.tensor([factor])
        if len(fit.pieces) > 1:
            units = fit.assignment.shape[fit.assignment.axes.outputs[0]]
            factors = torch.ones(units)
            factors[piece.first : piece.first + piece.size] = factor
        self.scratch.multiply(fit.assignment, factors)
