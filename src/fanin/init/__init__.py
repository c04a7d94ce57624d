"""Drop-in for ``torch.nn.init``: the same names, signatures, defaults, errors and warnings.

``from fanin import init`` in the place of ``from torch.nn import init`` changes nothing but the
numbers and the time they take.  Every call draws one number from torch's generator (or from
``generator=``) and takes it as the address of the tensor, so ``torch.manual_seed`` governs all.

Where torch fails this works: orthogonal matrices in bfloat16 and of non-contiguous tensors, and
truncated normals at any bounds, exactly.  A tensor on the meta device is an error here, where
torch says nothing, unless the default device is meta.
"""

from fanin.init.deprecated import (
    constant,
    dirac,
    eye,
    kaiming_normal,
    kaiming_uniform,
    normal,
    orthogonal,
    sparse,
    uniform,
    xavier_normal,
    xavier_uniform,
)
from fanin.init.fans import (
    _calculate_correct_fan,
    _calculate_fan_in_and_fan_out,
    calculate_gain,
    kaiming_normal_,
    kaiming_uniform_,
    xavier_normal_,
    xavier_uniform_,
)
from fanin.init.plain import constant_, normal_, ones_, trunc_normal_, uniform_, zeros_
from fanin.init.structured import dirac_, eye_, orthogonal_, sparse_

__all__ = [
    "_calculate_correct_fan",  # private in torch too, and used by many
    "_calculate_fan_in_and_fan_out",
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
