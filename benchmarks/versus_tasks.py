"""A task for any of the coverage models: fixed synthetic data that it can learn in 100 steps.

The model's own inputs are the pattern. A sample belongs to one of four classes:

* float tensors: the class's fixed pattern (half of its power slow along the last axes, half rough)
  in four times as much noise, at the mean and standard deviation of the model's own input;
* token ids: text of a Markov chain, one chain a class, over 30 tokens of its own choice of 90,
  with successors of probability .6, .3 and .1: 0.90 nats a token for one who knows the chain;
* other integers: uniform over the range of the model's own input;
* graphs: 48 nodes with 2 to 8 neighbours each, four fifths of them of the node's own class.

What it learns follows from its output: the next token (cross-entropy); the class where the output
is one vector of up to 16 logits a sample or node (cross-entropy; one label in ten is random, so
that no start reaches a loss of 0); which image goes with which text; else the class's noiseless
pattern, mixed over channels where input and output have one resolution, a slow random one of unit
variance otherwise (mean squared error).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

CLASSES, BATCH, SMALL_BATCH, NODES = 4, 16, 4, 48
FIRST_TOKEN, TOKENS, CLASS_TOKENS = 3, 90, 30
SUCCESSORS = torch.tensor([0.6, 0.3, 0.1])
MOST_LOGITS = 16
SIGNAL = 0.2
"""Share of the pattern in a float input's power."""
RANDOM_LABELS = 0.1
WANTED = (
    "logits", "logits_per_image", "predicted_depth", "prediction_outputs", "sample",
    "audio_values", "waveform", "last_hidden_state",
)  # fmt: skip


class NoTask(Exception):  # noqa: N818 - an answer, not a defect
    """The model has nothing to train or no output that depends on its parameters."""


@dataclass(frozen=True)
class Batch:
    inputs: Any
    target: torch.Tensor


@dataclass(frozen=True)
class Task:
    """What a model is trained on: the same batches for every start."""

    kind: str
    train: list[Batch]
    held_out: list[Batch]
    key: str

    def loss(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.kind == "values":
            return F.mse_loss(output, target)
        if self.kind == "tokens":
            return F.cross_entropy(output.flatten(0, 1), target.flatten())
        return F.cross_entropy(output, target)


class Ready(nn.Module):
    """A model as it is trained here: dropout off, batch norms on their batch, one output tensor."""

    def __init__(self, model: nn.Module, key: str = "") -> None:
        super().__init__()
        self.model, self.key = model, key
        for module in model.modules():
            module.training = isinstance(module, _BatchNorm)
        if hasattr(model, "config") and hasattr(model.config, "use_cache"):
            model.config.use_cache = False
        if hasattr(model, "set_attn_implementation"):
            # The same numbers from operations that run stacked.
            with contextlib.suppress(ValueError, NotImplementedError):
                model.set_attn_implementation("eager")

    def train(self, mode: bool = True) -> "Ready":
        return self

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return picked(self.model(*args, **kwargs), self.key)


def outputs(value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Every float tensor of an output, with its key, the wanted ones first."""
    if isinstance(value, torch.Tensor):
        yield "", value
    elif isinstance(value, Mapping) or hasattr(value, "items"):
        found = dict(value.items())
        for key in (*(k for k in WANTED if k in found), *(k for k in found if k not in WANTED)):
            if isinstance(found[key], torch.Tensor) and found[key].is_floating_point():
                yield key, found[key]
    elif isinstance(value, tuple | list) and value:
        for index, item in enumerate(value):
            if isinstance(item, torch.Tensor) and item.is_floating_point():
                yield str(index), item
    elif hasattr(value, "__dict__"):
        yield from outputs(vars(value))


def picked(value: Any, key: str) -> torch.Tensor:
    return next(t for k, t in outputs(value) if k == key or not key)


def call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def leaves(inputs: Any) -> list[tuple[str, torch.Tensor]]:
    if isinstance(inputs, torch.Tensor):
        return [("", inputs)]
    pairs = inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs)
    return [(str(k), v) for k, v in pairs if isinstance(v, torch.Tensor)]


def with_leaves(inputs: Any, new: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(inputs, torch.Tensor):
        return new[""]
    if isinstance(inputs, Mapping):
        return {k: new.get(str(k), v) for k, v in inputs.items()}
    return tuple(new.get(str(k), v) for k, v in enumerate(inputs))


def slow(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Noise of unit variance, averaged over a quarter of every long axis but the first."""
    x = torch.randn(shape, generator=generator)
    for axis in range(1 if len(shape) > 1 else 0, len(shape)):
        reach = shape[axis] // 4
        if reach > 1:
            x = sum(x.roll(step, axis) for step in range(reach)) / reach**0.5
    return (x - x.mean()) / x.std().clamp_min(1e-6) if x.numel() > 1 else x


class Data:
    """Draws batches like a model's own inputs."""

    def __init__(self, inputs: Any, rows: int, whole: bool, seed: int = 0) -> None:
        self.inputs, self.rows, self.whole = inputs, rows, whole
        self.generator = g = torch.Generator().manual_seed(seed)
        self.leaves = leaves(inputs)
        self.size = next(v.shape[0] for _, v in self.leaves)
        self.patterns = {
            k: torch.stack([(slow(tuple(v.shape[1:]), g)
                             + torch.randn(tuple(v.shape[1:]), generator=g)) / 2**0.5
                            for _ in range(CLASSES)])
            for k, v in self.leaves if v.is_floating_point()
        }  # fmt: skip
        self.words = torch.stack(
            [torch.randperm(TOKENS, generator=g)[:CLASS_TOKENS] + FIRST_TOKEN
             for _ in range(CLASSES)]
        )  # fmt: skip
        self.chain = torch.randint(CLASS_TOKENS, (CLASSES, CLASS_TOKENS, 3), generator=g)
        self.edges = None
        if graph_like(inputs):
            self.rows = NODES
            self.edges = self._edges()

    def _edges(self) -> torch.Tensor:
        """In-degrees from 2 to 8; the sources mostly of the node's own class."""
        found = []
        for node in range(NODES):
            for _ in range(2 + node % 7):
                same = torch.rand((), generator=self.generator) < 0.8
                source = int(torch.randint(NODES, (), generator=self.generator))
                if same:
                    source = source // CLASSES * CLASSES + node % CLASSES
                found.append((source, node))
        return torch.tensor(found).T.contiguous()

    def text(self, classes: torch.Tensor, length: int) -> torch.Tensor:
        state = torch.randint(CLASS_TOKENS, classes.shape, generator=self.generator)
        out = []
        for _ in range(length):
            out.append(self.words[classes, state])
            choice = torch.multinomial(SUCCESSORS, len(classes), True, generator=self.generator)
            state = self.chain[classes, state, choice]
        return torch.stack(out, 1)

    def draw(self, step: int) -> tuple[Any, torch.Tensor, dict[str, torch.Tensor]]:
        """Inputs, the samples' classes, and for every leaf of tokens the tokens that follow."""
        g, n = self.generator, self.rows
        classes = (torch.arange(n) + (0 if self.edges is not None else step)) % CLASSES
        if self.whole:
            classes = torch.full((n,), step % CLASSES)
        new: dict[str, torch.Tensor] = {}
        following: dict[str, torch.Tensor] = {}
        for key, leaf in self.leaves:
            if self.edges is not None and not leaf.is_floating_point():
                new[key] = self.edges
            elif leaf.shape[0] != self.size:
                continue
            elif leaf.is_floating_point():
                noise = torch.randn((n, *leaf.shape[1:]), generator=g)
                x = SIGNAL**0.5 * self.patterns[key][classes] + (1 - SIGNAL) ** 0.5 * noise
                std = leaf.std() if leaf.numel() > 1 else torch.tensor(1.0)
                new[key] = x * std + leaf.mean() if float(std) else leaf[:1].expand_as(x).clone()
            elif leaf.dim() == 2:
                text = self.text(classes, leaf.shape[1] + 1)
                new[key], following[key] = text[:, :-1].contiguous(), text[:, 1:].contiguous()
            else:
                low, high = int(leaf.min()), int(leaf.max())
                new[key] = torch.randint(low, high + 1, (n, *leaf.shape[1:]), generator=g)
        return with_leaves(self.inputs, new), classes, following


def graph_like(inputs: Any) -> bool:
    if not isinstance(inputs, tuple) or len(inputs) != 2:
        return False
    x, edges = inputs
    return edges.dtype == torch.int64 and edges.dim() == 2 and edges.shape[0] == 2 and x.dim() == 2


def make_task(build: Callable[[], tuple[nn.Module, Any]], steps: int, batch: int) -> Task:
    """The task that suits a model; the largest of the batches that it takes.

    Raises:
        NoTask: nothing to train.
    """
    torch.manual_seed(0)
    model, inputs = build()
    if not any(p.requires_grad for p in model.parameters()):
        raise NoTask("every parameter is frozen")
    ready = Ready(model)
    own = next(v.shape[0] for _, v in leaves(inputs))
    data, last = None, ""
    for rows in dict.fromkeys((batch, own)):
        data = Data(inputs, rows, whole=False)
        try:
            key, out = _trained_output(ready, data.draw(0)[0])
        except NoTask:
            raise
        except Exception as error:  # this size does not suit the model; the next may
            last = f"{type(error).__name__}: {error}".splitlines()[0][:100]
            continue
        if out.shape[0] != data.rows and rows == own:
            data = Data(inputs, rows, whole=True)
            return _task(data, key, out, steps)
        if out.shape[0] == data.rows:
            return _task(data, key, out, steps)
    raise NoTask(f"no batch suits it: {last}")


def _trained_output(ready: Ready, inputs: Any) -> tuple[str, torch.Tensor]:
    with torch.enable_grad():
        for key, out in outputs(call(ready.model, inputs)):
            if out.requires_grad and out.dim():
                return key, out.detach()
    raise NoTask("no output depends on a trained parameter")


def _task(data: Data, key: str, out: torch.Tensor, steps: int) -> Task:
    _, _, following = data.draw(0)
    kind = "values"
    text = next((k for k in ("decoder_input_ids", *following) if k in following), None)
    if text is not None and out.dim() == 3 and out.shape[-1] >= TOKENS + FIRST_TOKEN:
        kind = "tokens"
    elif key.startswith("logits_per"):
        kind = "pairs"
    elif out.dim() == 2 and 2 <= out.shape[1] <= MOST_LOGITS and not data.whole:
        kind = "classes"
    goal = _patterns(data, out)
    made = []
    for step in range(steps + 8):
        inputs, classes, following = data.draw(step)
        if kind == "tokens":
            target = following[str(text)]
        elif kind == "pairs":
            target = torch.arange(data.rows)
        elif kind == "classes":
            wrong = torch.rand(len(classes), generator=data.generator) < RANDOM_LABELS
            anything = torch.randint(out.shape[1], classes.shape, generator=data.generator)
            target = torch.where(wrong, anything, classes % out.shape[1])
        else:
            target = goal[classes] if not data.whole else goal[classes[:1]].expand_as(out)
        made.append(Batch(inputs, target))
    return Task(kind, made[:steps], made[steps:], key)


def _patterns(data: Data, out: torch.Tensor) -> torch.Tensor:
    """What each class should come out as: its own pattern without noise where that can be."""
    shape, g = tuple(out.shape[1:]), data.generator
    for pattern in data.patterns.values():
        if len(shape) > 1 and pattern.shape[2:] == shape[1:]:
            mix = torch.randn(shape[0], pattern.shape[1], generator=g) / pattern.shape[1] ** 0.5
            return torch.einsum("oi,ki...->ko...", mix, pattern)
    return torch.stack([slow(shape, g) for _ in range(CLASSES)])
