"""What to draw: one file a family, found by discovery.

Every module of this package is imported, and every concrete scheme class in it becomes a name of
``fanin.schemes``.  A new scheme is one new file.
"""

from typing import TYPE_CHECKING, Any

from fanin.schemes.discovery import SCHEME_CLASSES
from fanin.schemes.matrix import MatrixScheme
from fanin.schemes.scheme import ElementwiseScheme, Moments, Scheme
from fanin.schemes.table import SCHEMES, scheme, scheme_from_json
from fanin.schemes.torch_default import torch_defaults

if TYPE_CHECKING:
    # For type checkers and editors alone; at run time discovery finds the classes, these and
    # others.  A class that is missing here is of type Any to them.
    from fanin.schemes.constant import Constant as Constant
    from fanin.schemes.constant import Ones as Ones
    from fanin.schemes.constant import Zeros as Zeros
    from fanin.schemes.function import Function as Function
    from fanin.schemes.identity import Dirac as Dirac
    from fanin.schemes.identity import Identity as Identity
    from fanin.schemes.inverse_sqrt import InverseSqrt as InverseSqrt
    from fanin.schemes.kaiming import Kaiming as Kaiming
    from fanin.schemes.lecun import SELU as SELU
    from fanin.schemes.lecun import LeCun as LeCun
    from fanin.schemes.mirrored import Mirrored as Mirrored
    from fanin.schemes.normal import Normal as Normal
    from fanin.schemes.orthogonal import DeltaOrthogonal as DeltaOrthogonal
    from fanin.schemes.orthogonal import Orthogonal as Orthogonal
    from fanin.schemes.scaled import Scaled as Scaled
    from fanin.schemes.sinusoidal import Sinusoidal as Sinusoidal
    from fanin.schemes.sparse import Sparse as Sparse
    from fanin.schemes.torch_default import PyTorchDefault as PyTorchDefault
    from fanin.schemes.truncated_normal import TruncatedNormal as TruncatedNormal
    from fanin.schemes.uniform import Uniform as Uniform
    from fanin.schemes.variance_scaling import VarianceScaling as VarianceScaling
    from fanin.schemes.xavier import Xavier as Xavier

globals().update(SCHEME_CLASSES)

__all__ = [  # noqa: PLE0604 - the classes are found, not listed
    "SCHEMES",
    "SCHEME_CLASSES",
    "ElementwiseScheme",
    "MatrixScheme",
    "Moments",
    "Scheme",
    "scheme",
    "scheme_from_json",
    "torch_defaults",
    *SCHEME_CLASSES,
]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'fanin.schemes' has no attribute {name!r}")
