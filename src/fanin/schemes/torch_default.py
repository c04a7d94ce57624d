"""What PyTorch's own layers draw in ``reset_parameters``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

from torch import nn

from fanin.axes import Axes
from fanin.randomness.distributions import (
    Distribution,
    NormalDistribution,
    UniformDistribution,
)
from fanin.schemes.checks import require, require_choice, require_number
from fanin.schemes.constant import Constant, Ones, Zeros
from fanin.schemes.normal import Normal
from fanin.schemes.scheme import ElementwiseScheme, Names, Scheme

Kind = Literal["weight", "embedding", "attention"]


@dataclass(frozen=True)
class PyTorchDefault(ElementwiseScheme):
    """The distribution of torch's own layers.

    * ``weight``: U(±1/√n), variance 1/(3n).  Linear, Conv, ConvTranspose and Bilinear take for n
      what torch calls fan_in: axis 1 times the receptive field.  For a transposed convolution
      that is C_out/groups·k², not what one output sums.  Their biases take the n of the weight and
      RNN, LSTM and GRU the hidden size everywhere: give it as ``fan``.
    * ``embedding``: N(0, 1).
    * ``attention``: Xavier uniform on the packed (3d, d) q/k/v matrix as one, variance 1/(2d) and
      not the 1/d that each of its three matrices would get.

    torch writes the first as ``kaiming_uniform_(a=√5)``, which is not He's rule: a third of
    LeCun's variance, a sixth of He's.

    Use: to keep what torch does; ``torch_defaults(module)`` gives the scheme of every parameter.
    Source: ``torch/nn/modules``, pytorch#57109.

    Args:
        kind: ``weight``, ``embedding`` or ``attention``.
        fan: n for kind ``weight``; None to take it from the shape as torch does.
    """

    kind: Kind = "weight"
    fan: float | None = None

    names: ClassVar[Names] = {"torch_default": {}, "pytorch_default": {}}

    def __post_init__(self) -> None:
        require_choice(self, "kind", ("weight", "embedding", "attention"))
        if self.fan is not None:
            require_number(self, "fan", least=0)
            require(self.fan > 0, f"{self!r}: fan must be above 0.")
            require(self.kind == "weight", f"{self!r}: fan goes with kind='weight' only.")

    def resolve(self, shape: Sequence[int], axes: Axes) -> Distribution:
        """U(±1/√n), N(0, 1), or U(±√(6/(rows + columns)))."""
        if self.kind == "embedding":
            return NormalDistribution(0.0, 1.0)
        if self.fan is None:
            require(
                len(shape) >= 2,
                f"{self!r}: a tensor of shape {tuple(shape)} has no fan_in. Give fan=, the fan_in "
                "of the weight that the bias belongs to.",
            )
        if self.kind == "attention":
            taps = prod(shape[2:])
            bound = math.sqrt(6.0 / ((shape[0] + shape[1]) * taps))
        else:
            bound = 1.0 / math.sqrt(prod(shape[1:]) if self.fan is None else self.fan)
        return UniformDistribution(-bound, bound)

    def pieces(self, axes: Axes) -> Axes:
        """The tensor as one: torch's layers know nothing of packed pieces."""
        return replace(axes, block_sizes=())


def torch_defaults(module: nn.Module) -> dict[str, Scheme]:
    """Scheme of every own parameter of a standard layer, as its ``reset_parameters`` draws it.

    Parameters of submodules are not included; an embedding's padding row is not zeroed (that is
    a matter of the plan).  Empty for a module that is none of torch's standard layers.

    Examples:
        >>> torch_defaults(nn.Conv2d(3, 8, 5))
        {'weight': PyTorchDefault(kind='weight', fan=75.0),
         'bias': PyTorchDefault(kind='weight', fan=75.0)}
    """
    own = {name: p for name, p in module.named_parameters(recurse=False) if p is not None}
    match module:
        case nn.Linear() | nn.Bilinear() | nn.modules.conv._ConvNd():
            fan = PyTorchDefault("weight", float(prod(module.weight.shape[1:])))
            if isinstance(module, nn.Bilinear):
                fan = PyTorchDefault("weight", float(module.in1_features))
            elif isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear):
                # Multi-head attention's output projection; attention zeroes its bias.
                return {n: Zeros() if n == "bias" else fan for n in own}
            return dict.fromkeys(own, fan)
        case nn.RNNBase() | nn.RNNCellBase():
            return dict.fromkeys(own, PyTorchDefault("weight", float(module.hidden_size)))
        case nn.Embedding() | nn.EmbeddingBag():
            return dict.fromkeys(own, PyTorchDefault("embedding"))
        case nn.MultiheadAttention():
            return {name: _attention_default(name, p.shape[-1]) for name, p in own.items()}
        case nn.PReLU():
            return dict.fromkeys(own, Constant(float(module.init)))
        case nn.LayerNorm() | nn.RMSNorm() | nn.GroupNorm() | nn.modules.batchnorm._NormBase():
            return {n: Zeros() if n == "bias" else Ones() for n in own}
    return {}


def _attention_default(name: str, width: int) -> Scheme:
    if name == "in_proj_bias":
        return Zeros()
    if name in ("bias_k", "bias_v"):
        # Xavier normal on (1, 1, d), of which torch takes both fans to be d.
        return Normal(std=1.0 / math.sqrt(width))
    return PyTorchDefault("attention")
