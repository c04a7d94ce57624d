"""apply and initialize: what is written, what stays, and that it is all or nothing."""

import copy
import math
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import fanin
from fanin.errors import FaninError, PlanError
from fanin.planning import Action, Assignment, Plan
from fanin.randomness import Address
from fanin.schemes import Constant, Function, Normal, Ones, Zeros


def snapshot(model):
    return {n: (id(t), t.detach().clone()) for n, t in tensors(model)}


def tensors(model):
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def same(model, before):
    now = dict(tensors(model))
    return now.keys() == before.keys() and all(
        id(now[n]) == i and torch.equal(now[n].nan_to_num(), t.nan_to_num())
        for n, (i, t) in before.items()
    )


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(11, 8, padding_idx=2)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("codes", torch.arange(5))

    def forward(self, ids):
        return self.head(self.body(self.table(ids)))


def test_values_are_those_of_the_addresses():
    model = Net()
    fanin.initialize(model, recipe="normal_0.5", seed=7)
    wanted = torch.empty(8, 8)
    Normal(std=0.5).fill(wanted, fanin.Axes(0, 1), Address(7, "body.0.weight"))
    assert torch.equal(model.body[0].weight, wanted)


def test_what_stays():
    model = Net()
    model.body[1].running_mean.fill_(3.0)
    ids = {n: id(p) for n, p in model.named_parameters()}
    pointers = {n: p.data_ptr() for n, p in model.named_parameters()}
    model(torch.arange(4)).sum().backward()
    grads = {n: p.grad for n, p in model.named_parameters()}
    state = torch.get_rng_state()
    running = model.body[1].running_mean.clone()
    ledger = fanin.initialize(model, recipe="kaiming_normal")
    assert ids == {n: id(p) for n, p in model.named_parameters()}
    assert pointers == {n: p.data_ptr() for n, p in model.named_parameters()}
    assert all(p.grad is grads[n] and p.grad_fn is None for n, p in model.named_parameters())
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(model.body[1].running_mean, running)
    assert torch.equal(model.codes, torch.arange(5))
    assert ledger["codes"].status == "left"
    assert model.head.weight is model.table.weight
    assert not model.table.weight[2].any()
    assert model.table.weight.abs().sum(1).count_nonzero() == 10


def test_the_order_of_modules_and_other_parameters_do_not_matter():
    one = nn.ModuleDict({"a": nn.Linear(5, 5), "b": nn.Linear(5, 5)})
    two = nn.ModuleDict({"c": nn.Linear(9, 9), "b": nn.Linear(5, 5), "a": nn.Linear(5, 5)})
    for net in (one, two):
        fanin.initialize(net, recipe="orthogonal", seed=3)
    assert torch.equal(one["a"].weight, two["a"].weight)
    assert not torch.equal(one["a"].weight, one["b"].weight)
    fanin.initialize(two, recipe="orthogonal", seed=4)
    assert not torch.equal(one["a"].weight, two["a"].weight)


def test_wrapped_models_get_the_same_numbers():
    plain = nn.Sequential(nn.Linear(5, 5))
    compiled = torch.compile(copy.deepcopy(plain), backend="eager")
    fanin.initialize(plain, recipe="normal_1")
    fanin.initialize(compiled, recipe="normal_1")
    assert torch.equal(plain[0].weight, compiled._orig_mod[0].weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_dtypes(dtype):
    model = Net().to(dtype)
    ledger = fanin.initialize(model, recipe="xavier_uniform")
    assert model.table.weight.dtype == dtype
    assert ledger["body.0.weight"].std == pytest.approx(math.sqrt(2 / 16), rel=0.25)


def test_strided_and_inference_parameters():
    model = nn.Linear(6, 4)
    model.weight = nn.Parameter(torch.zeros(6, 4).t())
    plain = nn.Linear(6, 4)
    fanin.initialize(model, recipe="normal_1")
    fanin.initialize(plain, recipe="normal_1")
    assert torch.equal(model.weight, plain.weight)
    assert not model.weight.is_contiguous()
    with torch.inference_mode():
        frozen = nn.Linear(6, 4)
    fanin.initialize(frozen, recipe="normal_1")
    assert torch.equal(frozen.weight, plain.weight)


class BreaksError(Exception):
    pass


def breaking(error):
    def fill(tensor):
        tensor.fill_(9.0)
        raise error

    return Function(fill)


@pytest.mark.parametrize("error", [BreaksError(), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_a_failure_midway_leaves_the_model_as_it_was(error):
    model = Net()
    before = snapshot(model)
    made = fanin.plan(model, recipe="ones", overrides={"body.3.weight": breaking(error)})
    with pytest.raises(type(error)):
        fanin.apply(made, model)
    assert same(model, before)
    fanin.apply(fanin.plan(model, recipe="ones"), model)
    assert not same(model, before)


def test_a_second_interrupt_while_restoring_changes_nothing(monkeypatch):
    from fanin.filling import transaction

    model = Net()
    before = snapshot(model)
    real, calls = transaction._put_back, []

    def interrupted(live, held):
        calls.append(live)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(live, held)

    monkeypatch.setattr(transaction, "_put_back", interrupted)
    drawn = Function(lambda tensor: tensor.fill_(8.0))
    overrides = {"*": drawn, "body.3.bias": breaking(BreaksError())}
    made = fanin.plan(model, recipe="ones", overrides=overrides)
    with pytest.raises(KeyboardInterrupt):
        fanin.apply(made, model)
    assert same(model, before)
    assert len(calls) > 3


@pytest.mark.parametrize("when", [0, 3, "last"])
def test_an_interrupt_while_the_last_is_written_is_obeyed_when_all_is_written(monkeypatch, when):
    from fanin.filling import draws

    model, whole = Net(), Net()
    made = fanin.plan(model, recipe="kaiming_normal")
    fanin.apply(made, whole, seed=3)
    real, calls, last = draws.fill, [], sum(a.scheme is not None for a in made.values()) - 1
    wanted = whole.state_dict()

    def interrupted(*arguments):
        if len(calls) == (last if when == "last" else when):
            signal.raise_signal(signal.SIGINT)
        calls.append(arguments)
        real(*arguments)

    monkeypatch.setattr(draws, "fill", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fanin.apply(made, model, seed=3)
    assert all(torch.equal(t, wanted[n]) for n, t in model.state_dict().items())
    assert len(calls) == last + 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_thread_that_is_not_the_main_one_can_apply():
    model = Net()
    made = fanin.plan(model, recipe="ones")
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fanin.apply, made, model).result()
    assert bool((model.body[0].weight == 1).all())


def test_what_cannot_fail_is_written_behind_what_can():
    """A scheme that fails late finds the elementwise tensors before it as they were."""
    model, seen = Net(), []

    def look(tensor):
        seen.append(model.body[0].weight.detach().clone())

    before = model.body[0].weight.detach().clone()
    overrides = {"body.3.bias": Function(look)}
    fanin.apply(fanin.plan(model, recipe="ones", overrides=overrides), model)
    assert torch.equal(seen[0], before)
    assert bool((model.body[0].weight == 1).all())


class Doubled(Normal):
    """A scheme of the user's with a way of its own to write: it may fail at any place."""

    def fill(self, target, axes, address, region=None):
        super().fill(target, axes, address, region)
        raise BreaksError


def test_a_scheme_that_writes_in_its_own_way_is_copied():
    model = Net()
    before = snapshot(model)
    made = fanin.plan(model, recipe="ones", overrides={"body.3.weight": Doubled(std=1.0)})
    with pytest.raises(BreaksError):
        fanin.apply(made, model)
    assert same(model, before)


def test_a_constant_that_the_dtype_does_not_hold():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).half()
    before = snapshot(model)
    overrides = {"1.weight": Constant(value=1e6)}
    with pytest.raises(PlanError, match=r"1\.weight.*float16"):
        fanin.initialize(model, recipe="ones", overrides=overrides)
    assert same(model, before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from getrusage")
def test_a_model_in_memory_needs_no_second_copy():
    """100 MB of weights; a copy of them would be another 100."""
    code = """
import resource, torch, fanin
from torch import nn
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
small = nn.Linear(8, 8)
fanin.initialize(small, recipe="kaiming_normal")
model = nn.Sequential(*(nn.Linear(2500, 2500, bias=False) for _ in range(4)))
before = peak()
fanin.initialize(model, recipe="kaiming_normal")
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 30


def wrong_plan(**changes):
    base = fanin.plan(Net(), recipe="ones")
    return Plan("mine", "Net", {**base.assignments, **changes})


AXES = fanin.Axes(0, 1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"nope": Assignment("nope", Ones(), AXES, "", "")}, "nope"),
        (
            {"body.0.weight": Assignment("body.0.weight", Ones(), AXES, "", "", shape=(3, 3))},
            "Make a new plan",
        ),
        (
            {"body.0.weight": Assignment("body.0.weight", None, AXES, "", "", shape=(8, 8))},
            "no scheme",
        ),
        (
            {
                "body.0.weight": Assignment(
                    "body.0.weight", Ones(), fanin.Axes(0), "", "", shape=(8, 8)
                )
            },
            "axes",
        ),
        (
            {"head.weight": Assignment("head.weight", Ones(), AXES, "", "", shape=(11, 8))},
            "same tensor as",
        ),
        (
            {
                "body.0.weight": Assignment(
                    "body.0.weight", None, AXES, "", "", shape=(8, 8), action=Action.TIED,
                    tied_to="head.weight",
                )
            },
            "a tensor of its own",
        ),
        (
            {
                "body.0.weight": Assignment(
                    "body.0.weight", Ones(), AXES, "", "", shape=(8, 8), zero_rows=(8,)
                )
            },
            "zero_rows",
        ),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_is_refused_before_the_first_write(changes, says):
    model = Net()
    before = snapshot(model)
    with pytest.raises(PlanError, match=says):
        fanin.apply(wrong_plan(**changes), model)
    assert same(model, before)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "3", True])
def test_impossible_seeds(seed):
    with pytest.raises(FaninError, match="seed"):
        fanin.initialize(nn.Linear(2, 2), recipe="ones", seed=seed)


def test_integer_parameters_of_a_plan_are_refused():
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(3, dtype=torch.int32), requires_grad=False)
    made = Plan("x", "x", {"w": Assignment("w", Ones(), fanin.Axes(0), "", "", shape=(3,))})
    with pytest.raises(PlanError, match="int32"):
        fanin.apply(made, model)


def test_a_plan_may_name_a_part_of_the_model():
    model = Net()
    whole = fanin.plan(model, recipe="zeros")
    part = Plan("part", "Net", {"body.0.weight": whole["body.0.weight"]})
    ledger = fanin.apply(part, model)
    assert not model.body[0].weight.any()
    assert ledger["body.3.weight"].status == "left"
    assert "does not name it" in ledger["body.3.weight"].reason


def test_kept_tensors_are_the_same_bytes():
    model = Net()
    held = copy.deepcopy(model.state_dict())
    ledger = fanin.initialize(model, recipe="normal_1", keep=["body.0", "table.weight"])
    for name in ("body.0.weight", "body.0.bias", "table.weight"):
        assert torch.equal(model.state_dict()[name], held[name])
        assert ledger[name].status == "kept"
        assert ledger[name].digest == fanin.filling.digest_of(held[name])
    assert ledger["head.weight"].status == "tied"


def test_a_module_function_runs_as_model_apply_does():
    def f(module):
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)

    ours, plain = Net(), Net()
    plain.load_state_dict(ours.state_dict())
    state = torch.get_rng_state()
    ledger = fanin.initialize(ours, recipe=f, seed=5, keep=["body.3"], overrides={"body.0.bias": 2})
    assert torch.equal(state, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(5)
        plain.apply(f)
    assert torch.equal(ours.body[0].weight, plain.body[0].weight)
    assert ledger["body.0.weight"].status == "initialised"
    assert "f(module)" in ledger["body.0.weight"].reason
    assert ledger["body.1.weight"].status == "left"
    assert ledger["body.3.weight"].status == "kept"
    assert not torch.equal(ours.body[3].weight, plain.body[3].weight)
    assert (ours.body[0].bias == 2).all()


def test_a_module_function_that_fails_or_replaces_parameters():
    model = Net()
    before = snapshot(model)

    def replaces(module):
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(torch.ones(8, 8))
        if isinstance(module, Net):
            raise BreaksError

    with pytest.raises(BreaksError):
        fanin.initialize(model, recipe=replaces)
    assert same(model, before)
    assert model.head.weight is model.table.weight


def test_zero_elements_and_scalars():
    model = nn.Module()
    model.none = nn.Parameter(torch.empty(0, 3))
    model.one = nn.Parameter(torch.tensor(3.0))
    ledger = fanin.initialize(model, recipe="ones", overrides={"one": "zeros"})
    assert ledger["none"].status == "left"
    assert model.one.item() == 0.0
    assert ledger["one"].scheme == Zeros()
