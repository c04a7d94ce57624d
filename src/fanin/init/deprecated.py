"""The names without an underscore, which torch has deprecated and keeps."""

import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fanin.init.fans import kaiming_normal_, kaiming_uniform_, xavier_normal_, xavier_uniform_
from fanin.init.plain import constant_, normal_, uniform_
from fanin.init.structured import dirac_, eye_, orthogonal_, sparse_

_R = TypeVar("_R")
_P = ParamSpec("_P")


def _make_deprecate(function: Callable[_P, _R]) -> Callable[_P, _R]:
    new_name = function.__name__
    old_name = new_name[:-1]

    def deprecated_init(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        warnings.warn(
            f"`nn.init.{old_name}` is now deprecated in favor of `nn.init.{new_name}`.",
            FutureWarning,
            stacklevel=2,
        )
        return function(*args, **kwargs)

    deprecated_init.__name__ = old_name
    deprecated_init.__doc__ = f"Deprecated name of ``{new_name}``."
    return deprecated_init


uniform = _make_deprecate(uniform_)
normal = _make_deprecate(normal_)
constant = _make_deprecate(constant_)
eye = _make_deprecate(eye_)
dirac = _make_deprecate(dirac_)
xavier_uniform = _make_deprecate(xavier_uniform_)
xavier_normal = _make_deprecate(xavier_normal_)
kaiming_uniform = _make_deprecate(kaiming_uniform_)
kaiming_normal = _make_deprecate(kaiming_normal_)
orthogonal = _make_deprecate(orthogonal_)
sparse = _make_deprecate(sparse_)
