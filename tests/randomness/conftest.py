"""A way to choose the kernel, and the threads."""

from collections.abc import Callable, Iterator

import pytest
import torch

from fanin.randomness.kernel import kernel, kernels


@pytest.fixture
def use_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Call it with a value of FANIN_KERNEL."""

    def use(name: str) -> None:
        monkeypatch.setenv("FANIN_KERNEL", name)
        kernel.cache_clear()

    yield use
    monkeypatch.undo()
    kernel.cache_clear()


@pytest.fixture(params=kernels())
def each_kernel(request: pytest.FixtureRequest, use_kernel: Callable[[str], None]) -> str:
    """Runs the test once on every kernel that this machine has."""
    use_kernel(request.param)
    return request.param


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Call it with a number of threads; the number before comes back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
