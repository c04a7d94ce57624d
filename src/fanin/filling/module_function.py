"""Run a user's ``f(module)`` over every module, as ``model.apply`` does."""

from collections.abc import Mapping

import torch
from torch import nn

from fanin.filling.transaction import Transaction, Writable
from fanin.planning.assignment import Action, Plan


def run_module_function(
    plan: Plan, model: nn.Module, transaction: Transaction, seed: int
) -> Mapping[str, str]:
    """Run the plan's function under the seed; kept tensors are put back afterwards.

    torch's generators are as before when it returns.  What the function raises passes through,
    and the transaction then restores the model.

    Returns:
        The names of parameters and buffers whose bytes it changed -> a reason.
    """
    function = plan.module_function
    assert function is not None
    names = [n for n, _ in model.named_parameters()] + [n for n, _ in model.named_buffers()]
    for module in model.modules():
        # The function may put another Parameter object in the place of one.
        transaction.remember(module._parameters)
        transaction.remember(module._buffers)
    for name in names:
        transaction.open(name)
    # manual_seed reaches every device's generator, so every device's is put back.
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        model.apply(function)  # type: ignore[arg-type]
    _put_back_kept(plan, model, transaction)
    after = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    reason = f"changed by {plan.recipe}(module)"
    return {
        name: reason
        for name, tensor in after.items()
        if name not in names or not _same_bytes(tensor, transaction.before(name))
    }


def _put_back_kept(plan: Plan, model: nn.Module, transaction: Transaction) -> None:
    for name, a in plan.items():
        before = transaction.before(name) if a.action is Action.KEEP else None
        if before is not None:
            now = model.get_parameter(name).detach()
            with Writable(now):
                now.copy_(before)


def _same_bytes(tensor: torch.Tensor, before: torch.Tensor | None) -> bool:
    """Equal in shape, dtype and bits; NaN equals NaN and 0 differs from −0."""
    if before is None or tensor.shape != before.shape or tensor.dtype != before.dtype:
        return False
    if tensor.is_quantized or tensor.layout != torch.strided:
        return torch.equal(tensor, before)
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    view = bits.get(tensor.element_size())
    now = tensor.detach()
    if view is None:  # complex128
        now, before, view = torch.view_as_real(now), torch.view_as_real(before), torch.int64
    return torch.equal(now.contiguous().view(view), before.contiguous().view(view))
