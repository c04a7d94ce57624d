"""A Llama of 1.2 billion parameters, from its config to initialised on the CPU.

    python benchmarks/llama.py [--layers 16] [--rounds 3] [--threads 2] [--dtypes float32 bfloat16]

Three ways, each in a fresh process, interleaved, medians over the rounds:

* the constructor of transformers, which draws every weight in its layer's constructor and again
  with the model's own initialisation;
* transformers on the meta device, ``to_empty``, ``init_weights``: each weight drawn once;
* fanin: the constructor on the meta device, ``fanin.plan``, ``fanin.apply``, which gives memory and
  fills it, and computes the buffers as their modules do.

All draw N(0, 0.02²).  The clock runs from the config in hand to the initialised model; imports that
a way does only then count.  Before it starts, as much memory as the model takes is touched once and
handed back, so that a virtual machine's host has it ready for every way alike.  Each process checks
what it made: no tensor on meta, the std of the weights, the rotary frequencies against a rotary
module made on the CPU.  The peak is resident memory beyond what the process had before the clock.
"""

import argparse
import json
import mmap
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

WAYS = {
    "constructor": "transformers' constructor",
    "drawn once": "transformers: meta, to_empty, init_weights",
    "fanin": "fanin: meta, plan, apply",
}
DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


def memory(field: str) -> float:
    """GiB of a field of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 2**20
    raise SystemExit(f"/proc/self/status has no {field}: this script needs Linux")


def touch_and_return(size: int) -> None:
    """Let the system find this much memory once."""
    with mmap.mmap(-1, size) as fresh:
        for page in range(0, size, 4096):
            fresh[page] = 1


def construct(way: str, config, recipe: str):
    """The initialised model, and what its parts took."""
    import torch
    from transformers import LlamaForCausalLM

    import fanin

    begin = time.perf_counter()
    if way == "constructor":
        return LlamaForCausalLM(config), {}
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    constructed = time.perf_counter()
    if way == "drawn once":
        model.to_empty(device="cpu")
        model.init_weights()
        return model, {}
    inputs = None if recipe != "auto" else torch.zeros(1, 8, dtype=torch.int64, device="meta")
    plan = fanin.plan(model, inputs, recipe)
    planned = time.perf_counter()
    fanin.apply(plan, model)
    applied = time.perf_counter()
    parts = {
        "construct on meta": constructed - begin,
        "plan": planned - constructed,
        "apply": applied - planned,
    }
    return model, parts


def child(way: str, dtype: str, layers: int, threads: int, recipe: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: F401  (not on the clock)
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    torch.set_num_threads(threads)
    config = LlamaConfig(
        hidden_size=2048, num_hidden_layers=layers, intermediate_size=8192, vocab_size=32000
    )
    weights = 2 * 32000 * 2048 + layers * (4 * 2048**2 + 3 * 2048 * 8192)
    touch_and_return(weights * DTYPE_BYTES[dtype])
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is not the model's
    before = memory("VmRSS")
    torch.set_default_dtype(getattr(torch, dtype))
    used = resource.getrusage(resource.RUSAGE_SELF)
    begin = time.perf_counter()
    model, parts = construct(way, config, recipe)
    seconds = time.perf_counter() - begin
    since = resource.getrusage(resource.RUSAGE_SELF)
    peak = memory("VmHWM") - before

    rotary = LlamaRotaryEmbedding(config).inv_freq
    assert torch.equal(model.model.rotary_emb.inv_freq, rotary)
    assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
    if recipe != "auto":
        sample = model.model.layers[-1].mlp.down_proj.weight[:512].detach().float()
        assert abs(float(sample.std()) / 0.02 - 1) < 5 / (2 * sample.numel()) ** 0.5
        assert bool((model.model.norm.weight == 1).all())
    cpu = since.ru_utime + since.ru_stime - used.ru_utime - used.ru_stime
    total = sum(p.numel() for p in model.parameters())
    result = {"seconds": seconds, "cpu": cpu, "peak": peak, "parameters": total, **parts}
    print(json.dumps(result))


def run(way: str, dtype: str, options: argparse.Namespace) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    # An installed package has its bytecode; a checkout gets it in the round that is not counted.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    arguments = [way, dtype, str(options.layers), str(options.threads), options.recipe]
    out = subprocess.run(
        [sys.executable, __file__, "--child", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=environment,
    ).stdout
    return json.loads(out.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPE_BYTES), choices=DTYPE_BYTES)
    parser.add_argument("--recipe", default="normal_0.02", help="fanin's; auto records the model")
    options = parser.parse_args()
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for turn in range(options.rounds + 1):
        for dtype in options.dtypes:
            for way in WAYS:
                result = run(way, dtype, options)
                if turn > 0:  # the first round fills the caches of bytecode and files
                    found.setdefault((way, dtype), []).append(result)

    def median(way: str, dtype: str, what: str) -> float:
        return statistics.median(result[what] for result in found[way, dtype])

    first = next(iter(found.values()))[0]
    print(
        f"{first['parameters'] / 1e9:.3f} billion parameters, {options.layers} layers, "
        f"{options.threads} threads, median of {options.rounds} fresh processes\n"
    )
    print("| dtype | way | seconds | × constructor | CPU seconds | peak GiB |\n" + "|---" * 6 + "|")
    for dtype in options.dtypes:
        for way, words in WAYS.items():
            seconds = median(way, dtype, "seconds")
            ratio = median("constructor", dtype, "seconds") / seconds
            print(
                f"| {dtype} | {words} | {seconds:.2f} | {ratio:.1f} "
                f"| {median(way, dtype, 'cpu'):.2f} | {median(way, dtype, 'peak'):.2f} |"
            )
    for dtype in options.dtypes:
        parts = [
            name for name in found["fanin", dtype][0] if " " in name or name in ("plan", "apply")
        ]
        shown = ", ".join(f"{name} {median('fanin', dtype, name):.2f} s" for name in parts)
        print(f"\nfanin, {dtype}: {shown}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
    else:
        main()
