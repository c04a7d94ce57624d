"""Threads, forks, interrupts, memory: what surrounds the kernel."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from hashlib import blake2b

import pytest
import torch
from draw_cases import same_bits

from fanin.errors import UnknownNameError
from fanin.randomness import (
    Address,
    NormalDistribution,
    TruncatedNormalDistribution,
    draw,
    fill,
    kernel_in_use,
)
from fanin.randomness.kernel import kernels

NORMAL = NormalDistribution(0.0, 1.0)
ADDRESS = Address(1, "p")
N = 1_000_000
compiled = pytest.mark.skipif(kernels() == ["off"], reason="no compiled kernel here")


def digest(_=None):
    torch.set_num_threads(2)
    # Hashed, not summed by torch: its OpenMP threads do not outlive a fork.
    return blake2b(draw(NORMAL, ADDRESS, (N,)).numpy()).hexdigest()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    # The parent's pool is awake before the fork, which is when a child could hang on it.
    wanted = digest()
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(digest, range(3)).get(timeout=120) == [wanted] * 3
    assert digest() == wanted


def test_many_python_threads_at_once(threads):
    threads(2)
    wanted = draw(NORMAL, ADDRESS, (N,))
    targets = [torch.empty(N) for _ in range(6)]
    workers = [threading.Thread(target=fill, args=(t, NORMAL, ADDRESS)) for t in targets]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
    assert all(same_bits(target, wanted) for target in targets)


INTERRUPTED = """
import signal, torch, time, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell job ignores it
from fanin.randomness import Address, NormalDistribution, draw, fill, kernel_in_use
torch.set_num_threads(2)
target = torch.empty(1 << 24)
draw(NormalDistribution(0.0, 1.0), Address(0, "a"), (10,))
print("ready", flush=True)
try:
    while True:
        before = time.monotonic()
        # Strides make it slow: one call takes long enough to be interrupted within.
        fill(target.view(4096, 4096).t(), NormalDistribution(0.0, 1.0), Address(0, "a"))
except KeyboardInterrupt:
    print("stopped", flush=True)
    fill(target[:200_000], NormalDistribution(0.0, 1.0), Address(0, "a"))
    print("fills again", flush=True)
"""


@pytest.mark.parametrize("name", kernels())
def test_interrupt(name):
    environment = {**os.environ, "FANIN_KERNEL": name}
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert child.stdout.readline() == "stopped\n"
        # A second is the promise; the rest is for a busy machine.
        assert time.monotonic() - sent < 4
        assert child.stdout.readline() == "fills again\n"
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.stdout.close()


MEMORY = """
import resource, torch
from fanin.randomness import *
address = Address(0, "a")
n = 1 << 25
distributions = [NormalDistribution(0.0, 1.0), TruncatedNormalDistribution(0.0, 1.0, -2.0, 2.0)]
targets = [torch.zeros(n), torch.zeros(n // 8192, 8192).t()]
for distribution in distributions:
    draw(distribution, address, (10,))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for distribution in distributions:
    for target in targets:
        region = Region.whole(target.shape)
        for axis, size in enumerate(target.shape):
            # The array program needs no more to show its peak.
            if kernel_in_use() == "off":
                keep = max(1, size // 64)
                region, target = region.narrow(axis, 0, keep), target.narrow(axis, 0, keep)
        fill(target, distribution, address, region)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units")
@pytest.mark.parametrize("name", kernels())
def test_memory_beyond_the_tensor(name):
    environment = {**os.environ, "FANIN_KERNEL": name}
    out = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, env=environment, check=True
    )
    assert float(out.stdout) < 64


@compiled
def test_choosing_the_kernel(use_kernel):
    for name in kernels():
        use_kernel(name)
        assert kernel_in_use() == name
    use_kernel("")
    assert kernel_in_use() == kernels()[-1]
    use_kernel("avx1024")
    with pytest.raises(UnknownNameError, match="Nearest"):
        fill(torch.zeros(3), NORMAL, ADDRESS)


def test_without_the_compiled_kernel(use_kernel, monkeypatch, caplog):
    wanted = draw(NORMAL, ADDRESS, (1000,))
    monkeypatch.setitem(sys.modules, "fanin.randomness._kernel", None)
    use_kernel("")
    with caplog.at_level("DEBUG", logger="fanin.randomness"):
        assert kernel_in_use() == "off"
    assert "the array program fills" in caplog.text
    assert same_bits(draw(NORMAL, ADDRESS, (1000,)), wanted)
    use_kernel("avx2")
    with pytest.raises(UnknownNameError, match="cannot be imported"):
        draw(NORMAL, ADDRESS, (3,))


def test_the_debug_log_names_the_kernel(use_kernel, caplog):
    use_kernel(kernels()[-1])
    with caplog.at_level("DEBUG", logger="fanin.randomness"):
        draw(NORMAL, ADDRESS, (3,))
    expected = kernels()[-1] if len(kernels()) > 1 else "array program"
    assert expected in caplog.text


def test_first_call_of_a_process_is_quick():
    """Importing the kernel and filling once is a matter of milliseconds, not of compilation."""
    code = (
        "import time, torch, fanin.randomness as r\n"
        "begin = time.perf_counter()\n"
        "r.fill(torch.empty(100), r.NormalDistribution(0.0, 1.0), r.Address(0, 'a'))\n"
        "print(time.perf_counter() - begin)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.05


THREADS = """
import os, sys, torch
from fanin.randomness import *
def fill_and_count():
    fill(target, NormalDistribution(0.0, 1.0), Address(0, "a"))
    return len(os.listdir("/proc/self/task"))
target = torch.empty(1 << 20)
before = len(os.listdir("/proc/self/task"))
print(torch.get_num_threads(), fill_and_count() - before, end=" ")
for threads in (1, 3):
    torch.set_num_threads(threads)
    print(fill_and_count() - before, end=" ")
"""


@compiled
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("omp", "printed"), [("1", "1 0 0 2"), ("2", "2 1 1 2")])
def test_as_many_threads_as_torch_has(omp, printed):
    """OMP_NUM_THREADS and torch.set_num_threads govern: the pool starts no thread beyond them."""
    environment = {**os.environ, "OMP_NUM_THREADS": omp}
    environment.pop("FANIN_KERNEL", None)
    out = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, env=environment, check=True
    )
    assert out.stdout.split() == printed.split()


FRESH = """
import sys, torch
from fanin.randomness import *
torch.set_num_threads(2)
n = 3_000_001
for offset in (0, 1, 7):
    # Fresh pages from the system, and not a byte beside the tensor.
    storage = torch.empty(n + 16)
    target = storage[offset : offset + n]
    before, after = storage[:offset].clone(), storage[offset + n :].clone()
    fill(target, NormalDistribution(0.0, 1.0), Address(0, "a"))
    again = torch.zeros(n)
    fill(again, NormalDistribution(0.0, 1.0), Address(0, "a"))
    assert torch.equal(target, again)
    assert torch.equal(storage[:offset], before) and torch.equal(storage[offset + n :], after)
    del storage, target
print("fine")
"""


@pytest.mark.parametrize("name", [kernels()[-1]])
def test_fresh_memory(name):
    out = subprocess.run(
        [sys.executable, "-c", FRESH],
        capture_output=True,
        text=True,
        env={**os.environ, "FANIN_KERNEL": name, "MALLOC_PERTURB_": "85"},
        check=True,
    )
    assert out.stdout == "fine\n"


@compiled
def test_a_fork_while_another_thread_fills(threads):
    """A child that is born in the middle of a fill has a pool of its own."""
    threads(2)
    stop = threading.Event()
    target = torch.empty(N)

    def keep_filling():
        while not stop.is_set():
            fill(target, TruncatedNormalDistribution(0.0, 1.0, -2.0, 2.0), ADDRESS)

    worker = threading.Thread(target=keep_filling)
    worker.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                draw(NORMAL, ADDRESS, (N,))
                os._exit(17)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 17
    finally:
        stop.set()
        worker.join()
