"""Roles and axes read off module types alone: what can be known before a model has run.

Recipes without inputs stand on this; with inputs it fills in for the parameters that the one
recorded call did not use (experts that no token was routed to, a branch not taken).
"""

from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fanin.axes import Axes
from fanin.graph.role import ParameterRole, Role

_GATES = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n"), "RNN": ("h",)}
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)


def read_module_roles(model: nn.Module) -> Mapping[str, ParameterRole]:
    """Parameter or effective weight path -> role, for the modules whose types say it.

    Weights under a parametrisation appear under their effective path, ``"conv.weight"``.
    """
    roles: dict[str, ParameterRole] = {}
    for path, module in model.named_modules():
        for local, role, axes, kind, blocks in _read(module):
            name = f"{path}.{local}" if path else local
            fact = ParameterRole(
                parameter=name,
                role=role,
                axes=axes,
                kind=kind,
                block_names=blocks,
                evidence=(f"{local} of {type(module).__name__} {path!r}",),
            )
            # A parent that knows its child's purpose comes first: attention's out_proj.
            roles.setdefault(name, fact)
    return roles


_Fact = tuple[str, Role, Axes | None, str, tuple[str, ...]]


def _read(module: nn.Module) -> Iterator[_Fact]:
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        yield from _recurrent(module)
    elif isinstance(module, nn.MultiheadAttention):
        yield from _attention(module)
    elif isinstance(module, _ConvNd):
        yield from _convolution(module)
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        # A row is looked up, not summed: rows are independent vectors of outputs.
        yield "weight", Role.EMBEDDING, Axes(outputs=1, batch=0), "embedding", ()
    elif isinstance(module, nn.Bilinear):
        yield "weight", Role.WEIGHT, Axes(outputs=0, inputs=(1, 2)), "bilinear", ()
        yield from _bias()
    elif isinstance(module, nn.PReLU):
        yield "weight", Role.GATE, Axes(outputs=0), "prelu", ()
    elif isinstance(module, nn.Linear):
        yield "weight", Role.WEIGHT, Axes(outputs=0, inputs=1), "linear", ()
        yield from _bias()
    elif isinstance(module, _NORMS) or _is_norm_by_name(module):
        yield from _norm(module)
    elif _is_transposed_linear(module):
        yield "weight", Role.WEIGHT, Axes(outputs=1, inputs=0), "linear", ()
        yield from _bias()


def _bias() -> Iterator[_Fact]:
    yield "bias", Role.BIAS, Axes(outputs=0), "bias", ()


def _convolution(module: _ConvNd) -> Iterator[_Fact]:
    transposed = isinstance(module, _ConvTransposeNd)
    taps = tuple(range(2, 2 + len(module.kernel_size)))
    axes = Axes(
        outputs=1 if transposed else 0,
        inputs=0 if transposed else 1,
        receptive=taps,
        groups=module.groups,
        stride=module.stride,
        transposed=transposed,
    )
    kind = "transposed convolution" if transposed else "convolution"
    yield "weight", Role.WEIGHT, axes, kind, ()
    yield from _bias()


def _norm(module: nn.Module) -> Iterator[_Fact]:
    for local, role in (("weight", Role.NORM_SCALE), ("bias", Role.NORM_BIAS)):
        tensor = module._parameters.get(local)
        if tensor is not None:
            yield local, role, Axes(outputs=tuple(range(tensor.dim()))), "norm", ()


def _is_norm_by_name(module: nn.Module) -> bool:
    """A norm of another library: named so, with one vector of scales and at most one of shifts."""
    name = type(module).__name__.lower()
    own = {n: p for n, p in module._parameters.items() if p is not None}
    return (
        ("norm" in name)
        and "weight" in own
        and set(own) <= {"weight", "bias"}
        and all(isinstance(p, torch.Tensor) and p.dim() == 1 for p in own.values())
    )


def _is_transposed_linear(module: nn.Module) -> bool:
    """The ``(in, out)`` linear layer of GPT-2's transformers port."""
    weight = getattr(module, "weight", None)
    return type(module).__name__ == "Conv1D" and weight is not None and weight.dim() == 2


def _attention(module: nn.MultiheadAttention) -> Iterator[_Fact]:
    width = module.embed_dim
    packed = Axes(outputs=0, inputs=1, block_sizes=(width,) * 3)
    if module._qkv_same_embed_dim:
        yield "in_proj_weight", Role.PACKED_QKV, packed, "linear", ("q", "k", "v")
    else:
        for local, role in (("q", Role.QUERY), ("k", Role.KEY), ("v", Role.VALUE)):
            yield f"{local}_proj_weight", role, Axes(outputs=0, inputs=1), "linear", ()
    yield "in_proj_bias", Role.BIAS, Axes(outputs=0), "bias", ("q", "k", "v")
    yield "out_proj.weight", Role.ATTENTION_OUT, Axes(outputs=0, inputs=1), "linear", ()
    yield "bias_k", Role.TOKEN, None, "attention", ()
    yield "bias_v", Role.TOKEN, None, "attention", ()


def _recurrent(module: nn.RNNBase | nn.RNNCellBase) -> Iterator[_Fact]:
    cell = type(module).__name__.removesuffix("Cell")
    mode = getattr(module, "mode", "").split("_")[0] or cell
    gates = _GATES.get(mode, ("h",))
    blocks = (module.hidden_size,) * len(gates)
    kind = mode.lower()
    matrix = Axes(outputs=0, inputs=1, block_sizes=blocks)
    for local in module._parameters:
        if local.startswith("weight_ih"):
            yield local, Role.RECURRENT_INPUT, matrix, kind, gates
        elif local.startswith("weight_hh"):
            # With proj_size the recurrent matrix reads proj_size inputs; the gates stay.
            yield local, Role.RECURRENT, matrix, kind, gates
        elif local.startswith("weight_hr"):
            yield local, Role.WEIGHT, Axes(outputs=0, inputs=1), kind, ()
        elif local.startswith("bias"):
            yield local, Role.RECURRENT_BIAS, Axes(outputs=0, block_sizes=blocks), kind, gates
