"""Mean, standard deviation and digest of a tensor, in one pass over small pieces."""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b

import torch

PIECE_BYTES = 1 << 22
"""Bytes hashed as one piece.  Part of the definition of a digest: never change it."""


_PART = 1 << 15
"""Elements of which the moments are taken at once: 256 KiB in float64."""


@dataclass(frozen=True)
class Measurement:
    """What a tensor holds; mean and std are None for non-float and empty tensors."""

    mean: float | None
    std: float | None
    digest: str


def measure_tensor(tensor: torch.Tensor) -> Measurement:
    """Mean, std (over n, not n − 1) and digest of a tensor on any device, not on meta."""
    return measure_pieces(_pieces(tensor), tensor.dtype, tuple(tensor.shape))


def measure_pieces(
    pieces: Iterable[torch.Tensor], dtype: torch.dtype, shape: tuple[int, ...]
) -> Measurement:
    """The same of a tensor that comes as flat pieces of ``piece_length`` elements, in order."""
    head = f"{str(dtype).removeprefix('torch.')}{list(shape)}".encode()
    whole = blake2b(head, digest_size=16)
    moments = _Moments()
    measured = dtype.is_floating_point and dtype.itemsize >= 2
    for piece in pieces:
        whole.update(_hash(piece))
        if measured:
            moments.add(piece)
    return Measurement(moments.mean, moments.std, whole.hexdigest())


def measure_all(tensors: dict[str, torch.Tensor]) -> dict[str, Measurement]:
    """Measure many tensors, as many at once as torch has threads."""
    if sum(t.numel() for t in tensors.values()) < 1 << 20:
        return {name: measure_tensor(tensor) for name, tensor in tensors.items()}
    with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
        return dict(zip(tensors, pool.map(measure_tensor, tensors.values()), strict=True))


def digest_of(tensor: torch.Tensor) -> str:
    """BLAKE2b-128 of dtype, shape, and the BLAKE2b-128 of each 4 MiB of the bytes in row order.

    Equal for equal bytes on any device and with any strides.
    """
    return measure_tensor(tensor).digest


def piece_length(dtype: torch.dtype) -> int:
    """Elements in one piece."""
    return PIECE_BYTES // dtype.itemsize


def _pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """Flat contiguous pieces on the CPU, in row order; a strided tensor is copied in slabs."""
    data = tensor.detach()
    if data.layout != torch.strided or data.is_quantized:
        data = data.to_dense() if data.layout != torch.strided else data.int_repr()
    length = piece_length(data.dtype)
    if data.is_contiguous():
        for piece in _split(data.view(-1), length) if data.numel() else ():
            yield piece.cpu()
        return
    held: list[torch.Tensor] = []
    count = 0
    row = max(1, data.numel() // max(1, data.shape[0]))
    for slab in _split(data, max(1, length // row)):
        flat = slab.reshape(-1).cpu()
        while count + flat.numel() >= length:
            cut = length - count
            yield torch.cat([*held, flat[:cut]])
            held, count, flat = [], 0, flat[cut:]
        held.append(flat)
        count += flat.numel()
    if count:
        yield torch.cat(held)


def _split(tensor: torch.Tensor, length: int) -> Iterator[torch.Tensor]:
    """Slices of ``length`` along the first axis."""
    for start in range(0, tensor.shape[0], length):
        yield tensor[start : start + length]


def _hash(piece: torch.Tensor) -> bytes:
    return blake2b(piece.view(torch.uint8).numpy().data, digest_size=16).digest()


class _Moments:
    """Running mean and sum of squared deviations in float64, merged piece by piece (Chan 1979)."""

    def __init__(self) -> None:
        self.count, self._mean, self._squares = 0, 0.0, 0.0

    def add(self, piece: torch.Tensor) -> None:
        # Small enough to stay in the cache while it is read twice: ten times torch.var_mean.
        for part in _split(piece, _PART):
            origin = float(part[0])
            # Measured from its own first element, so that a large mean costs no digits.
            shifted = part.double() - origin
            n = shifted.numel()
            mean = float(shifted.sum()) / n
            squares = float(shifted.dot(shifted)) - n * mean * mean
            self._merge(n, origin + mean, max(squares, 0.0) if squares == squares else squares)

    def _merge(self, n: int, mean: float, squares: float) -> None:
        total = self.count + n
        step = mean - self._mean
        self._mean += step * n / total
        self._squares += squares + step * step * self.count * n / total
        self.count = total

    @property
    def mean(self) -> float | None:
        return self._mean if self.count else None

    @property
    def std(self) -> float | None:
        return math.sqrt(self._squares / self.count) if self.count else None
