"""Data-dependent start of weight normalisation: every unit to mean 0 and std 1 on a batch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
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
from fanin.calibrating.products import Product, Products, along, read_products
from fanin.calibrating.scratch import Scratch
from fanin.errors import DataError, RecordError
from fanin.planning.assignment import Assignment, Plan
from fanin.planning.recipe import Base, DataRecipe
from fanin.schemes.constant import Ones

_CONSTANT = 1e-6
"""A unit whose std is below this share of its RMS varies by rounding alone."""
_TOLERANCE = 0.1  # of the std of a weight that is used several times, and measured anew
_RUNS = 10


@dataclass(frozen=True, repr=False)
class WeightNorm(DataRecipe):
    """Scale and bias of every unit from the batch, as weight normalisation starts.

    Args:
        base: the recipe that draws the directions.
    """

    base: Base = "normal_0.05"

    name: ClassVar[str] = "weight_norm"
    summary: ClassVar[str] = "Every unit's pre-activation to mean 0 and std 1 on a batch."
    paper: ClassVar[str] = "Salimans & Kingma, Weight Normalization, NIPS 2016"
    docs: ClassVar[str] = """\
Directions from N(0, 0.05²); then, in the order in which the layers run, each output unit is divided
by its own std σ over the batch (and over positions, in convolutions), and its bias is set to −μ/σ:
the scale and bias with which weight normalisation starts, written into plain layers, or through
`weight_norm` where a layer has it. A unit that does not vary on the batch keeps its scale. Without
a bias of its own a layer is scaled alone. A weight that is used several times is scaled by the std
over all uses, without a bias. Recurrent matrices stay as drawn.

The batch needs more than one observation of every unit. The plan holds one factor a unit, so that
it is applied again without the batch. Settings: `fanin.recipes.WeightNorm(base="normal_0.05")`."""

    def calibrate(
        self, plan: Plan, model: nn.Module, inputs: Any, free: Collection[str], seed: int
    ) -> Plan:
        """Run, and normalise each unit as its layer appears."""
        scratch = Scratch(plan, model, inputs, seed)
        weights, found = weights_to_measure(scratch, plan, free, "weight_norm")
        found |= _Normalising(scratch, plan, weights, set(free)).run()
        return with_factors(plan, found, (), inputs, seed)


RECIPE = WeightNorm()


@dataclass
class _Units:
    """What is known of the units of one weight."""

    assignment: Assignment
    factors: torch.Tensor  # one for each unit, or one for all
    pooled: bool
    uses: int
    stds: torch.Tensor | None = None  # as first seen; 0 for units that do not vary
    bias: str | None = None  # the bias that was set
    count: int = 0  # over the uses of one run
    total: torch.Tensor | float = 0.0
    square: torch.Tensor | float = 0.0

    def see(self, here: slice, stds: torch.Tensor) -> None:
        """Note the stds of some units, the first time they are seen."""
        if self.stds is None:
            self.stds = torch.full_like(self.factors, float("nan"))
        unseen = self.stds[here].isnan()
        self.stds[here] = torch.where(unseen, stds.to(self.stds), self.stds[here])


class _Normalising:
    """One run over all layers, and further ones for weights that are used several times."""

    def __init__(
        self,
        scratch: Scratch,
        plan: Plan,
        weights: Mapping[str, Assignment],
        free: Collection[str],
    ) -> None:
        self.scratch, self.plan, self.weights, self.free = scratch, plan, weights, free
        self.units: dict[str, _Units] = {}
        self.biases: dict[str, torch.Tensor] = {}
        self.open = False

    def run(self) -> dict[str, Measured]:
        """What was found, for weights and biases."""
        if not self.weights:
            return {}
        products = read_products(self.scratch.run(), self.weights)
        for name, a in self.weights.items():
            self.units[name] = self._units(name, a, products)
        for _ in range(_RUNS):
            self.open = False
            follower = Follower(products, self._visit, self._visit_sum)
            graph = self.scratch.run(follower)
            for unit in self.units.values():
                self._settle_pooled(unit)
            if not self.open and not follower.lost:
                break
            if follower.lost:
                products = read_products(graph, self.weights)
        return {n: _told(u) for n, u in self.units.items()} | {
            name: _told_bias(values) for name, values in self.biases.items()
        }

    def _units(self, name: str, a: Assignment, products: Products) -> _Units:
        uses, count = products.of(name), self.scratch.per_unit(a)
        apart = bool(count) and bool(uses) and all(p.axis is not None for p in uses)
        pooled = name in products.coupled or not apart
        return _Units(a, torch.ones(count if apart else 1), pooled, len(uses))

    def _visit(self, product: Product, out: torch.Tensor) -> None:
        unit = self.units.get(product.weight)
        if unit is None or not out.numel():
            return
        rows = out.reshape(1, -1).T if unit.factors.numel() == 1 else _rows(product, out)
        bias = self._bias(product)
        own = bias is not None and self._may_set(product.bias, product)
        if bias is not None and not own:
            rows = rows - bias if bias.shape == rows.shape[1:] else rows
        if unit.pooled:
            self._pool(unit, product, rows)
            return
        mean, std, constant = self._moments(product, rows)
        here = slice(product.first, product.first + product.units)
        unit.see(here, torch.where(constant, 0.0, std))
        ratio = torch.where(constant, 1.0, 1.0 / std)
        shift = torch.zeros_like(mean)
        if product.bias is not None and own:
            shift = -mean * ratio
            old = self.scratch.parameters[product.bias]
            self._set_bias(unit, product.bias, old.detach() * ratio + shift)
        kept = 0.0 if bias is None or own else along(product.axis or 0, bias, out)
        assert product.axis is not None
        scaled = (out - kept) * along(product.axis, ratio, out)
        out.copy_(scaled + along(product.axis, shift, out) + kept)
        self._scale(unit, here, ratio)

    def _visit_sum(self, product: Product, bias: str, out: torch.Tensor) -> None:
        """A bias that an operation of its own adds takes the mean away there."""
        unit = self.units.get(product.weight)
        old = self.scratch.parameters[bias].detach()
        plain = product.axis is not None and old.shape == (product.units,)
        if unit is None or unit.pooled or not plain or not self._may_set(bias, product):
            return
        mean = out.reshape(-1, out.shape[-1]).mean(dim=0)
        out.sub_(mean)
        self._set_bias(unit, bias, old - mean)

    def _bias(self, product: Product) -> torch.Tensor | None:
        return None if product.bias is None else self.scratch.parameters[product.bias].detach()

    def _may_set(self, bias: str | None, product: Product) -> bool:
        """Whether a bias is free, and belongs to the units of this product alone."""
        if bias is None or bias not in self.free:
            return False
        return self.plan[bias].shape == (product.units,)

    def _set_bias(self, unit: _Units, bias: str, values: torch.Tensor) -> None:
        unit.bias = bias
        self.biases[bias] = values
        with torch.no_grad():
            self.scratch.parameters[bias].copy_(values)

    def _moments(
        self, product: Product, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and std of every unit, and which of them do not vary."""
        if rows.shape[0] < 2:
            raise DataError(
                "weight_norm measures the std of every unit over the batch, and those of "
                f"{product.weight!r} are seen once in it. Give 2 samples or more."
            )
        variance, mean = torch.var_mean(rows, dim=0, correction=0)
        if not bool(variance.isfinite().all()):
            raise RecordError(
                f"weight_norm: the output of {product.weight!r} is not finite on this batch. Look "
                "for the operation that makes it so with fanin.check(model, batch)."
            )
        std = variance.sqrt()
        return mean, std, std <= _CONSTANT * (variance + mean.square()).sqrt()

    def _pool(self, unit: _Units, product: Product, rows: torch.Tensor) -> None:
        self._moments(product, rows)
        unit.count += rows.shape[0] if rows.shape[1] == unit.factors.numel() else 0
        total, square = rows.double().sum(dim=0), rows.double().square().sum(dim=0)
        unit.total, unit.square = unit.total + total, unit.square + square

    def _settle_pooled(self, unit: _Units) -> None:
        if not unit.pooled or not unit.count:
            return
        mean = torch.as_tensor(unit.total) / unit.count
        variance = torch.as_tensor(unit.square) / unit.count - mean.square()
        unit.count, unit.total, unit.square = 0, 0.0, 0.0
        std = variance.clamp(min=0).sqrt().float()
        constant = std <= _CONSTANT * mean.abs().float()
        unit.see(slice(0, std.numel()), torch.where(constant, 0.0, std))
        if bool(((std - 1).abs()[~constant] < _TOLERANCE).all()):
            return
        self.open = True
        # Used k times in a row its output may grow as the k-th power of its scale.
        ratio = torch.where(constant, 1.0, std.clamp(min=1e-30) ** (-1.0 / max(unit.uses, 1)))
        self._scale(unit, slice(0, unit.factors.numel()), ratio)

    def _scale(self, unit: _Units, here: slice, ratio: torch.Tensor) -> None:
        whole = torch.ones_like(unit.factors)
        whole[here] = ratio
        unit.factors = unit.factors * whole
        self.scratch.multiply(unit.assignment, whole)


def _rows(product: Product, out: torch.Tensor) -> torch.Tensor:
    """``(observations, units)``."""
    assert product.axis is not None
    return out.movedim(product.axis, -1).reshape(-1, product.units)


def _told(unit: _Units) -> Measured:
    if unit.stds is None:
        return Measured("weight_norm: as drawn: its product with data was not seen in the call")
    varying = unit.stds[unit.stds > 0].tolist()
    if not varying:
        return Measured("weight_norm: as drawn: no unit varies on the batch (std 0)")
    factors = unit.factors.tolist()
    many = "of its units" if len(factors) > 1 else "of its output"
    reason = f"weight_norm: std {many} {listed(varying)} on the batch, each divided by its own"
    if len(factors) == 1:
        reason = f"weight_norm: std {many} {listed(varying)} on the batch, so × {factors[0]:.3g}"
    evidence = []
    constant = int((unit.stds == 0).sum())
    if constant:
        evidence.append(f"{constant} units do not vary on the batch: as drawn")
    if unit.pooled and unit.uses > 1:
        evidence.append(f"measured over {unit.uses} uses")
    evidence.append(
        "mean: " + (f"taken off by {unit.bias}" if unit.bias else "no bias takes it off")
    )
    factor = factors[0] if len(factors) == 1 else tuple(factors)
    return Measured(reason, factor, tuple(evidence))


def _told_bias(values: torch.Tensor) -> Measured:
    listed_values = values.tolist()
    reason = f"weight_norm: −μ/σ of every unit on the batch: {listed(listed_values)}"
    return Measured(reason, tuple(listed_values), scheme=Ones())
