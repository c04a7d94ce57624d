"""Deep transformers on text: post-norm as shipped, by its weights alone, and as DeepNorm.

    python benchmarks/transformers_depth.py                 # what is missing, then the tables
    python benchmarks/transformers_depth.py --only post48 pre48
    python benchmarks/transformers_depth.py --show          # the tables from the results so far

Text: the manual that ships with Python (``pydoc_data.topics``), by characters; no download. Every
run: width 64, 4 heads, 64 characters of context, 8 sequences a step, 150 steps of Adam (betas .9
and .999, no warm-up, no decay, no clipping), the same batches in the same order for one seed. The
loss is in nats a character on the last tenth of the text, which no step saw; beside it stands the
unigram entropy, what a model reaches that has learnt the letters' frequencies and nothing else.

Each run is saved when it ends, under a hash of the weights that it began with: a start that has
changed since is run again, one that has not is not.
"""

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from statistics import mean, stdev

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin

WIDTH, HEADS, CONTEXT, BATCH, STEPS = 64, 4, 64, 8, 150
RATES = (3e-4, 1e-3, 3e-3)
RESULTS = Path("transformers_depth.json")


def text() -> tuple[torch.Tensor, torch.Tensor, int, float]:
    """Train and held-out characters as numbers, how many kinds, unigram entropy of the latter."""
    whole = "\n".join(topics[name] for name in sorted(topics))
    whole = "".join(c if c == "\n" or 32 <= ord(c) < 127 else " " for c in whole)
    alphabet = {c: k for k, c in enumerate(sorted(set(whole)))}
    numbers = torch.tensor([alphabet[c] for c in whole])
    cut = len(numbers) * 9 // 10
    train, held = numbers[:cut], numbers[cut:]
    counts = torch.bincount(train, minlength=len(alphabet)).double() + 1
    return train, held, len(alphabet), float(-(counts / counts.sum()).log()[held].mean())


TRAIN, HELD, LETTERS, UNIGRAM = text()


class Block(nn.Module):
    """Causal attention and a GELU MLP around a stream, in one of four orders."""

    def __init__(self, order: str, stream: float) -> None:
        super().__init__()
        self.order, self.stream = order, stream
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        if order == "rezero":
            self.gate = nn.Parameter(torch.zeros(()))
        else:
            self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.order == "pre":
            x = x + self.attend(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        if self.order == "rezero":
            x = x + self.gate * self.attend(x)
            return x + self.gate * self.mlp(x)
        if self.order == "deepnorm":
            x = self.norm1(self.stream * x + self.attend(x))
            return self.norm2(self.stream * x + self.mlp(x))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.mlp(x))


class Encoder(nn.Module):
    """torch's own layers, post-norm; they are deep copies of one and start identical."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        mask = nn.Transformer.generate_square_subsequent_mask(CONTEXT)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x, mask=self.mask, is_causal=True)


class Characters(nn.Module):
    """Embeddings, a body of so many layers, a head."""

    def __init__(self, order: str, layers: int) -> None:
        super().__init__()
        self.letters, self.places = nn.Embedding(LETTERS, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        if order == "encoder":
            self.body: nn.Module = Encoder(layers)
        else:
            stream = (2 * layers) ** 0.25
            self.body = nn.Sequential(*(Block(order, stream) for _ in range(layers)))
        self.norm = nn.LayerNorm(WIDTH) if order == "pre" else nn.Identity()
        self.head = nn.Linear(WIDTH, LETTERS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.letters(ids) + self.places(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.body(x)))


class FromLibrary(nn.Module):
    """BERT (post-norm, as a decoder) or GPT-2 (pre-norm) of the transformers library, both tied."""

    def __init__(self, order: str, layers: int) -> None:
        super().__init__()
        import transformers

        transformers.logging.set_verbosity_error()
        common = {"vocab_size": LETTERS, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        if order == "BERT":
            config = transformers.BertConfig(
                hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=HEADS,
                intermediate_size=4 * WIDTH, max_position_embeddings=CONTEXT, is_decoder=True,
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **common,
            )  # fmt: skip
            self.model = transformers.BertLMHeadModel(config)
        else:
            config = transformers.GPT2Config(
                n_embd=WIDTH, n_layer=layers, n_head=HEADS, n_positions=CONTEXT,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **common,
            )  # fmt: skip
            self.model = transformers.GPT2LMHeadModel(config)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(ids, use_cache=False).logits


LIBRARY = ("BERT", "GPT-2")


def as_deepnet(model: Characters, layers: int, seed: int) -> None:
    """DeepNorm's own start, written from the paper: Xavier, v, out, fc1 and fc2 × (8M)^(−¼)."""
    torch.manual_seed(seed)
    gain = (8 * layers) ** -0.25
    nn.init.normal_(model.letters.weight)
    nn.init.normal_(model.places.weight)
    nn.init.normal_(model.head.weight, std=WIDTH**-0.5)
    nn.init.zeros_(model.head.bias)
    for block in model.body:
        for matrix, factor in zip(block.qkv.weight.data.chunk(3), (1, 1, gain), strict=True):
            nn.init.xavier_normal_(matrix, factor)
        for layer in (block.out, block.fc1, block.fc2):
            nn.init.xavier_normal_(layer.weight, gain)
        for layer in (block.qkv, block.out, block.fc1, block.fc2):
            nn.init.zeros_(layer.bias)


def begin(order: str, recipe: str, layers: int, seed: int) -> nn.Module:
    """A model at its start: as its constructors leave it, or by a recipe."""
    torch.manual_seed(seed)
    model = FromLibrary(order, layers) if order in LIBRARY else Characters(order, layers)
    if recipe == "its own":
        as_deepnet(model, layers, seed)
    elif recipe != "as shipped":
        fanin.initialize(model, TRAIN[None, :CONTEXT], recipe, seed=seed)
    return model


def batch(data: torch.Tensor, size: int, random: torch.Generator) -> tuple[torch.Tensor, ...]:
    starts = torch.randint(len(data) - CONTEXT, (size, 1), generator=random)
    windows = data[starts + torch.arange(CONTEXT + 1)]
    return windows[:, :-1], windows[:, 1:]


def loss_of(model: nn.Module, data: torch.Tensor, size: int, random: torch.Generator):
    ids, after = batch(data, size, random)
    return F.cross_entropy(model(ids).flatten(0, 1), after.flatten())


def train(model: nn.Module, rate: float, seed: int) -> float:
    """Held-out loss after the steps; infinite where training left the numbers."""
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(STEPS):
        loss = loss_of(model, TRAIN, BATCH, random)
        if not math.isfinite(loss.item()):
            return math.inf
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return mean(loss_of(model, HELD, 32, random).item() for _ in range(4))


@dataclass(frozen=True)
class Trial:
    """One arm of a table; without rates at the one that auto's plan advises for that depth."""

    order: str
    recipe: str
    layers: int
    rates: tuple[float, ...] = (1e-3,)
    seeds: int = 3


def both(order: str, layers: int, rates: tuple[float, ...], seeds: int) -> tuple[Trial, ...]:
    return tuple(Trial(order, recipe, layers, rates, seeds) for recipe in ("as shipped", "auto"))


TABLES: dict[str, tuple[Trial, ...]] = {
    "post48": (
        Trial("post", "as shipped", 48),
        Trial("post", "auto", 48, seeds=6),
        Trial("deepnorm", "its own", 48, seeds=6),
        Trial("rezero", "as shipped", 48),
    ),
    "encoder48": both("encoder", 48, (1e-3,), 3),
    "pre48": (Trial("pre", "gpt2", 48, RATES), Trial("pre", "auto", 48, RATES)),
    "post200": both("post", 200, (), 1),
    "BERT24": both("BERT", 24, (3e-4, 1e-3), 2),
    "GPT-2-24": both("GPT-2", 24, (1e-3, 3e-3), 2),
    "post96": both("post", 96, (), 2),
    "post24": both("post", 24, (), 2),
}


def advised_rate(layers: int) -> float:
    """The learning rate in the advice of auto's plan for the post-norm model."""
    with torch.device("meta"):
        model = Characters("post", layers)
    plan = fanin.plan(model, torch.zeros(1, CONTEXT, dtype=torch.long, device="meta"))
    words = next(line for line in plan.advice if "learning rate of" in line).split()
    return float(words[words.index("of", words.index("rate")) + 1])


def key_of(model: nn.Module, trial: Trial, rate: float, seed: int) -> str:
    digest = hashlib.blake2b(digest_size=6)
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"{trial.order}/{trial.recipe}/{trial.layers}/{rate:.3g}/{seed}/{digest.hexdigest()}"


def run(names: list[str], results: dict[str, dict], save: Callable[[], None]) -> None:
    """Everything that is missing, one seed after the other so that all tables fill evenly."""
    trials = [trial for name in names for trial in TABLES[name]]
    for seed in range(max(t.seeds for t in trials)):
        for trial in [t for t in trials if seed < t.seeds]:
            for rate in trial.rates or (advised_rate(trial.layers),):
                model = begin(trial.order, trial.recipe, trial.layers, seed)
                key, began = key_of(model, trial, rate, seed), time.process_time()
                if key in results:
                    continue
                loss = train(model, rate, seed)
                results[key] = {"loss": loss, "seconds": time.process_time() - began}
                save()
                print(f"{key:60} {loss:.3f}  {results[key]['seconds']:.0f} s", flush=True)


def show(results: dict[str, dict]) -> None:
    """The newest run of each arm, rate and seed, as a table."""
    arms: dict[tuple[str, str, int, str], dict[str, float]] = {}
    for key, result in results.items():
        order, recipe, layers, rate, seed, _ = key.split("/")
        arms.setdefault((order, recipe, int(layers), rate), {})[seed] = result["loss"]
    print(f"held-out loss, nats a character, {STEPS} steps; unigram entropy {UNIGRAM:.3f}\n")
    print(f"{'model':9} {'start':11} {'layers':>6} {'rate':>8}   {'mean':>6} {'±':>6}   seeds")
    for arm in sorted(arms, key=lambda a: (a[2], a[0], a[1], float(a[3]))):
        order, recipe, layers, rate = arm
        losses = [loss for _, loss in sorted(arms[arm].items())]
        spread = f"{stdev(losses):6.3f}" if len(losses) > 1 else f"{'–':>6}"
        seeds = "  ".join(f"{loss:.3f}" for loss in losses)
        print(f"{order:9} {recipe:11} {layers:6} {rate:>8}   {mean(losses):6.3f} {spread}  {seeds}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("--only", nargs="*", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--show", action="store_true", help="print the tables, run nothing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    path: Path = options.results
    results: dict[str, dict] = json.loads(path.read_text()) if path.exists() else {}
    if not options.show:
        run(options.only, results, lambda: path.write_text(json.dumps(results, indent=1)) and None)
        print()
    show(results)


if __name__ == "__main__":
    main()
