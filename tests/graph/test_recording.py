"""What ``record`` sees, and that the model is afterwards as it was."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from fanin.errors import DataError, RecordError
from fanin.graph import Recorder, Ref, TensorKind, call, record, untouched


def names(graph):
    return [operation.name for operation in graph.operations]


class Net(nn.Module):
    """One class for models that are one function of two layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


def state(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {k: v.clone() for k, v in model.state_dict().items()},
        "modes": [m.training for m in model.modules()],
        "hooks": [dict(m._forward_hooks) for m in model.modules()],
        "names": [sorted(vars(m)) for m in model.modules()],
        "grads": [p.grad for p in model.parameters()],
        "requires": [p.requires_grad for p in model.parameters()],
        "rng": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
    }


def assert_same(before, after):
    assert before["tensors"].keys() == after["tensors"].keys()
    for key, value in before["tensors"].items():
        assert torch.equal(value, after["tensors"][key]), key
    assert torch.equal(before["rng"], after["rng"])
    assert all(a is b for a, b in zip(before["grads"], after["grads"], strict=True))
    for key in ("modes", "hooks", "names", "requires", "python", "numpy"):
        assert before[key] == after[key], key


def noisy() -> nn.Module:
    """Frozen batch norm inside a training model, dropout, old-style norms, a hook, a gradient."""

    def forward(self, x):
        self.calls += 1
        x = self.norm(self.first(x)) + torch.randn(1) + random.random() + np.random.rand()
        return self.drop(self.second(self.frozen(x)))

    with pytest.warns(FutureWarning):
        second = nn.utils.weight_norm(nn.Linear(4, 4))
    net = Net(
        forward,
        first=nn.utils.spectral_norm(nn.Linear(3, 4)),
        norm=nn.BatchNorm1d(4),
        frozen=nn.BatchNorm1d(4).eval(),
        second=second,
        drop=nn.Dropout(),
    )
    net.calls = 0
    net.first.bias.grad = torch.ones(4)
    net.norm.requires_grad_(False)
    net.register_forward_hook(lambda *_: None)
    return net


def test_the_model_is_as_it_was():
    net = noisy()
    before, gradient = state(net), net.first.bias.grad.clone()
    record(net, torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert_same(before, state(net))
    assert net.calls == 0
    assert torch.equal(net.first.bias.grad, gradient)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_model_is_as_it_was_when_it_raises(error):
    net = noisy()

    def explode(*_):
        raise error("stop")

    net.drop.register_forward_hook(explode)
    before = state(net)
    expected = RecordError if error is ValueError else KeyboardInterrupt
    with pytest.raises(expected):
        record(net, torch.randn(5, 3, generator=torch.Generator().manual_seed(0)))
    assert_same(before, state(net))
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_backward_pass_inside_untouched_leaves_gradients_alone():
    net = nn.Linear(2, 1)
    net.weight.grad = torch.full((1, 2), 7.0)
    kept = net.weight.grad
    with untouched(net):
        net(torch.ones(3, 2)).sum().backward()
        assert net.weight.grad is not kept
    assert net.weight.grad is kept
    assert kept.tolist() == [[7.0, 7.0]]
    assert net.bias.grad is None


def test_in_place_operations_make_new_values():
    net = Net(lambda self, x: self.a(x).relu_().add_(1), a=nn.Linear(3, 3))
    graph = record(net, torch.randn(2, 3))
    product, relu, add = graph.operations[-3:]
    assert [op.name for op in (product, relu, add)] == ["addmm", "relu_", "add_"]
    assert len({*product.outputs, *relu.outputs, *add.outputs}) == 3
    assert relu.inputs == product.outputs
    assert add.inputs == relu.outputs
    assert graph.outputs == add.outputs


def test_a_write_through_a_view_reaches_the_whole():
    def forward(self, x):
        whole = torch.zeros(2, 4)
        whole[:, :2] = self.a(x)
        return whole * 2

    graph = record(Net(forward, a=nn.Linear(3, 2)), torch.randn(2, 3))
    product = next(op for op in graph.operations if op.name == "addmm")
    final = graph.producer[graph.outputs[0]]
    reached, front = set(), [final.inputs[0]]
    while front:
        tensor = front.pop()
        reached.add(tensor)
        maker = graph.producer.get(tensor)
        front.extend(maker.inputs if maker else ())
    assert product.outputs[0] in reached


def test_the_pieces_of_a_split_do_not_disturb_each_other():
    def forward(self, x):
        left, right = (x * 2).chunk(2, -1)
        left.sigmoid_()
        return right.tanh_()

    graph = record(Net(forward), torch.randn(2, 4))
    assert "updated" not in names(graph)
    split = next(op for op in graph.operations if op.name == "split")
    assert graph.producer[graph.outputs[0]].inputs == split.outputs[1:]


def test_module_paths_and_shared_modules():
    block = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    graph = record(nn.Sequential(block, block), torch.randn(2, 3))
    assert [op.module for op in graph.operations] == ["0.0", "0.0", "0.1"] * 2
    assert graph.modules["0.0"].qualified_name == "torch.nn.modules.linear.Linear"
    assert graph.parameters["1.0.weight"].tied_to == "0.0.weight"


def test_tied_parameters_and_shared_memory_have_one_value():
    net = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    net[1].weight = net[0].weight
    graph = record(net, torch.tensor([1, 2]))
    assert graph.parameters["1.weight"].tied_to == "0.weight"
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other[1].weight.data = other[0].weight.data
    assert record(other, torch.randn(1, 3)).parameters["1.weight"].tied_to == "0.weight"


def test_parameters_are_followed_through_what_is_done_to_them():
    def forward(self, x):
        weight = torch.cat([self.a.weight[:2], self.b.weight.to(torch.float64).float()]).t()
        return x @ (weight * 2)

    graph = record(Net(forward, a=nn.Linear(3, 4), b=nn.Linear(3, 2)), torch.randn(2, 3))
    product = graph.operations[-1]
    assert product.name == "mm"
    weight = graph.tensors[product.inputs[1]]
    assert weight.of_parameters == ("a.weight", "b.weight")
    assert graph.tensors[product.outputs[0]].of_parameters == ()


def test_inputs_and_outputs_of_any_structure():
    @dataclasses.dataclass
    class Result:
        first: torch.Tensor
        rest: dict[str, Any]

    def forward(self, x, *, scale=None):
        return Result(self.a(x) * scale, {"list": [x + 1, (self.a(x),)]})

    graph = record(
        Net(forward, a=nn.Linear(3, 3)), {"x": torch.randn(2, 3), "scale": torch.ones(1)}
    )
    assert len(graph.inputs) == 2
    assert len(graph.outputs) == 3
    assert all(graph.tensors[i].kind is TensorKind.INPUT for i in graph.inputs)


def test_composite_operations_come_apart_in_inference_mode():
    def forward(self, x):
        with torch.inference_mode():
            x = self.a(x)
        with torch.no_grad():
            return F.layer_norm(self.a(x.clone()), (3,))

    graph = record(Net(forward, a=nn.Linear(3, 3)), torch.randn(2, 3))
    assert names(graph).count("addmm") == 2
    assert "linear" not in names(graph)


def test_a_frozen_encoder_in_eval_mode_is_not_one_opaque_operation():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.TransformerEncoder(layer, 1).eval().requires_grad_(False)
    found = names(record(net, torch.randn(2, 3, 8)))
    assert "_transformer_encoder_layer_fwd" not in found
    assert found.count("native_layer_norm") == 2


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_blocks(reentrant):
    def forward(self, x):
        return checkpoint(lambda y: self.a(y).relu(), x, use_reentrant=reentrant)

    graph = record(Net(forward, a=nn.Linear(3, 3)), torch.randn(2, 3, requires_grad=True))
    assert [n for n in names(graph) if n in ("addmm", "relu")] == ["addmm", "relu"]


def test_compiled_modules_are_recorded_uncompiled():
    plain = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    compiled = torch.compile(plain)
    graph = record(compiled, torch.randn(2, 3))
    assert names(graph) == ["t", "addmm", "relu"]
    assert set(graph.parameters) == set(dict(compiled.named_parameters()))


def test_meta_models_take_inputs_from_any_device():
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(1 << 16, 1 << 16), nn.GELU())
    graph = record(net, torch.randn(2, 1 << 16))
    assert names(graph) == ["t", "addmm", "gelu"]
    assert graph.tensors[graph.outputs[0]].shape == (2, 1 << 16)


def test_fake_models():
    with FakeTensorMode():
        net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.GELU())
        graph = record(net, torch.randn(2, 3))
    assert [n for n in names(graph) if n in ("addmm", "gelu")] == ["addmm", "gelu"]
    assert graph.tensors[graph.outputs[0]].shape == (2, 4)
    assert graph.parameters["0.weight"].shape == (4, 3)


def test_meta_models_that_read_values_say_so():
    def forward(self, x):
        return self.a(x) if x.sum() > 0 else x

    with torch.device("meta"):
        net = Net(forward, a=nn.Linear(3, 3))
    with pytest.raises(RecordError, match="meta device have none"):
        record(net, torch.randn(2, 3))


def test_recording_is_deterministic_and_free_of_tensors():
    net, x = nn.Sequential(nn.Linear(3, 3), nn.Dropout()), torch.randn(2, 3)
    first, second = record(net, x), record(net, x)
    assert first == second
    assert all(not isinstance(value, torch.Tensor) for op in first.operations for value in op.args)
    assert isinstance(first.operations[0].args[0], Ref)


def test_observed_tensors_have_the_ids_and_the_gradients():
    net = nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2)), nn.ReLU(), nn.Flatten())
    x, seen = torch.randn(5, 3), {}

    def observe(operation, tensors):
        for value, tensor in zip(operation.outputs, tensors, strict=False):
            seen[value] = tensor

    recorder = Recorder(net, observe)
    out = recorder.run(x)
    graph = recorder.graph
    assert graph == record(net, x)
    relu = next(op for op in graph.operations if op.name == "relu")
    before, after = seen[relu.inputs[0]], seen[relu.outputs[0]]
    assert torch.equal(before.relu(), after)
    gradients = torch.autograd.grad(out.sum(), [before, after])
    assert torch.equal(gradients[0], (before > 0).float())
    assert torch.equal(gradients[1], torch.ones_like(after))


@pytest.mark.parametrize(
    ("inputs", "error", "said"),
    [
        ([torch.zeros(2, 3)], DataError, "list is not a tensor"),
        ((torch.zeros(2, 3), 1, 2), DataError, "Linear.forward(input) does not take"),
        ({"nonsense": 1}, DataError, "nonsense"),
        ({1: torch.zeros(2, 3)}, DataError, "not a string"),
        (torch.zeros(2, 5), RecordError, "float32[2, 5]"),
        (torch.zeros(2, 3, dtype=torch.long), RecordError, "int64[2, 3]"),
        ("text", DataError, "str is not a tensor"),
    ],
)
def test_wrong_inputs_are_named(inputs, error, said):
    with pytest.raises(error) as caught:
        record(nn.Linear(3, 3), inputs)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_name_the_module_that_raised():
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 3)))
    with pytest.raises(RecordError, match=r"in module '0\.1'"):
        call(net, torch.randn(2, 3))


def test_lazy_parameters_and_non_modules_are_refused():
    with pytest.raises(RecordError, match="lazy"):
        record(nn.LazyLinear(3), torch.randn(2, 3))
    with pytest.raises(RecordError, match=r"not a torch\.nn\.Module"):
        record(torch.relu, torch.randn(2, 3))


def test_empty_batches_and_integer_parameters():
    net = Net(lambda self, x: self.a(x) * self.n, a=nn.Linear(3, 3))
    net.n = nn.Parameter(torch.tensor(2), requires_grad=False)
    graph = record(net, torch.zeros(0, 3))
    assert graph.tensors[graph.outputs[0]].shape == (0, 3)
    assert graph.parameters["n"].dtype == "int64"
