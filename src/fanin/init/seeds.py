"""Seeds and keys of addresses, out of torch's generators."""

import sys
import threading

import torch

from fanin.randomness.address import key_of


class _Scratch(threading.local):
    """One number for each thread to draw seeds into: a new tensor costs more than the draw."""

    def __init__(self) -> None:
        self.number = torch.empty((), dtype=torch.int64, device="cpu")
        self.bytes = memoryview(self.number.numpy().reshape(1).view("uint8").data)


_scratch = _Scratch()


def next_seed(generator: torch.Generator | None) -> int:
    """The generator's next number, 0 to 2**63 - 1; torch's default generator if None.

    ``torch.manual_seed`` therefore governs every draw, and two calls in a row differ.  The
    default generator is the CPU's for tensors of any device, so no device has to be waited for.
    """
    return int.from_bytes(_next_bytes(generator), sys.byteorder)


def next_key(generator: torch.Generator | None) -> int:
    """The key of the address that has ``next_seed`` as its seed, and no name."""
    drawn = _next_bytes(generator)
    return key_of(drawn if sys.byteorder == "little" else drawn[::-1], b"")


def _next_bytes(generator: torch.Generator | None) -> memoryview:
    """The generator's next number in the machine's order of bytes, until the next call."""
    scratch = _scratch
    if generator is None:
        scratch.number.random_()
    elif getattr(generator, "device", scratch.number.device) == scratch.number.device:
        scratch.number.random_(generator=generator)
    else:
        elsewhere = torch.empty((), dtype=torch.int64, device=generator.device)
        scratch.number.copy_(elsewhere.random_(generator=generator))
    return scratch.bytes
