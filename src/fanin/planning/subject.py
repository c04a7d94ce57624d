"""What a recipe sees of a model: facts about every parameter, never a tensor's values."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, update_wrapper
from math import prod
from typing import Any, Concatenate, ParamSpec, TypeVar

from fanin.axes import Axes, Fans, dense_axes
from fanin.graph.graph import Graph
from fanin.graph.role import ParameterRole, Role
from fanin.planning.parametrised import ParametrisedWeight

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

LAYER_WEIGHTS = frozenset(
    {
        Role.WEIGHT,
        Role.RESIDUAL_WRITER,
        Role.GATE_PROJECTION,
        Role.UP_PROJECTION,
        Role.DOWN_PROJECTION,
        Role.QUERY,
        Role.KEY,
        Role.VALUE,
        Role.PACKED_QKV,
        Role.ATTENTION_OUT,
        Role.HEAD,
        Role.RECURRENT_INPUT,
        Role.RECURRENT,
        Role.ROUTER,
        Role.MODULATION,
        Role.ADAPTER_DOWN,
        Role.ADAPTER_UP,
    }
)
"""Roles of weights that multiply their input."""

TABLES = frozenset({Role.EMBEDDING, Role.TIED_HEAD, Role.POSITION_TABLE})
"""Roles of tables that are looked up."""

BIASES = frozenset({Role.BIAS, Role.RECURRENT_BIAS, Role.NORM_BIAS})
"""Roles of vectors that are added."""


@dataclass(frozen=True)
class Subject:
    """One parameter as a recipe sees it.

    Args:
        name: its name in the model.
        shape: its shape, or that of the effective weight that it carries.
        dtype: such as ``"float32"``.
        role: what it is for.
        module: path of the module that owns it.
        local_name: its name there, ``"weight"``.
        type_name: class name of that module.
        layer_type: nearest class of torch.nn that its module is or derives from, ``"Linear"``;
            empty for modules of the user's own making.
        containers: class names of the modules around that one.
        settings: plain settings of that module: ``padding_idx``, ``stride``, …
        constant: the value that all its elements have as constructed; None where they differ,
            or where the tensor is on the meta device.
        on_meta: it has no memory, so nothing of it can be kept.
        frozen: it does not require a gradient.
        parametrised: the effective weight that it belongs to.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: ParameterRole
    module: str
    local_name: str
    type_name: str
    layer_type: str = ""
    containers: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)
    constant: float | None = None
    on_meta: bool = False
    frozen: bool = False
    parametrised: ParametrisedWeight | None = None

    @property
    def axes(self) -> Axes:
        """Which axis is what; PyTorch's convention where the use does not say."""
        return self.role.axes if self.role.axes is not None else dense_axes(self.shape)

    @property
    def fans(self) -> Fans:
        """fan_in and fan_out of the whole tensor."""
        return self.axes.fans(self.shape)

    @property
    def block_fans(self) -> tuple[Fans, ...]:
        """fan_in and fan_out of each independent piece."""
        return tuple(block.axes.fans(block.shape) for block in self.axes.blocks(self.shape))

    @property
    def is_layer_weight(self) -> bool:
        """It multiplies its input."""
        return self.role.role in LAYER_WEIGHTS

    @property
    def is_table(self) -> bool:
        """It is looked up."""
        return self.role.role in TABLES

    @property
    def is_bias(self) -> bool:
        """It is added."""
        return self.role.role in BIASES

    @property
    def writes_residual(self) -> bool:
        """Its output is added to a residual stream."""
        return self.role.residual_branches > 0

    @property
    def padding_row(self) -> int | None:
        """The row of a table that stands for padding."""
        row = self.settings.get("padding_idx")
        if not isinstance(row, int) or not self.is_table or not self.shape:
            return None
        return row % self.shape[0] if -self.shape[0] <= row < self.shape[0] else None

    @property
    def count(self) -> int:
        """Number of elements."""
        return prod(self.shape)


def once_per_model(
    function: Callable[Concatenate["Circumstances", Parameters], Result],
) -> Callable[Concatenate["Circumstances", Parameters], Result]:
    """Compute a fact about the whole model once, though every parameter asks for it."""

    def remembered(
        circumstances: "Circumstances", /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        memory = vars(circumstances).setdefault("_memory", {})
        key = (function, args, tuple(sorted(kwargs.items())))
        if key not in memory:
            memory[key] = function(circumstances, *args, **kwargs)
        result: Result = memory[key]
        return result

    update_wrapper(remembered, function)
    return remembered


@dataclass(frozen=True)
class Circumstances:
    """The whole model as a recipe sees it.

    Args:
        model_type: class name of the model.
        subjects: parameter name -> subject, tied names left out.
        graph: the recorded operations; None where no inputs were given.
        config: plain settings of the model and of its ``config``, such as ``hidden_size``.
        block_count: largest number of modules in one ``ModuleList`` or ``Sequential`` of equals.
    """

    model_type: str
    subjects: Mapping[str, Subject]
    graph: Graph | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    block_count: int = 0

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.subjects.values())

    @cached_property
    def residual_branches(self) -> int:
        """Number of residual adds along the main stream; 0 without any."""
        return max((s.role.residual_branches for s in self), default=0)

    @cached_property
    def depth(self) -> int:
        """Number of weight layers on the longest path."""
        return max((s.role.depth for s in self), default=0)

    @cached_property
    def _modules(self) -> dict[str, dict[str, Subject]]:
        found: dict[str, dict[str, Subject]] = {}
        for subject in self:
            found.setdefault(subject.module, {})[subject.local_name] = subject
        return found

    def of_module(self, path: str) -> Mapping[str, Subject]:
        """The parameters that one module owns, by their local name."""
        return self._modules.get(path, {})

    def number(self, *names: str) -> float | None:
        """The first of these settings that the model's config has as a number."""
        for name in names:
            value = self.config.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
        return None
