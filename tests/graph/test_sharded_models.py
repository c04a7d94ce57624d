"""Models whose parameters are DTensors: what each is for, and that they still run afterwards."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from fanin.graph import Role, read_roles, record

pytest.importorskip("torch.testing._internal.distributed.fake_pg")

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")


@pytest.fixture
def mesh():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield init_device_mesh("cpu", (2,))
    dist.destroy_process_group()


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6))


def check(graph):
    roles = read_roles(graph)
    plain = read_roles(record(net(), torch.randn(3, 4)))
    for name, role in plain.items():
        shape = graph.parameters[name].shape
        assert roles[name].role is role.role, name
        assert roles[name].activation == role.activation, name
        assert roles[name].axes.fans(shape) == role.axes.fans(shape), name
    assert roles["2.weight"].role is Role.HEAD


def test_tensor_parallel(mesh):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    model = parallelize_module(net(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    check(record(model, torch.randn(3, 4)))


def test_fully_sharded_and_still_running_afterwards(mesh):
    from torch.distributed.fsdp import fully_shard

    model = fully_shard(net())
    before = dict(model.named_parameters())
    check(record(model, torch.randn(3, 4)))
    assert all(p is before[name] for name, p in model.named_parameters())
    # Gathered parameters left behind its back would make the next call fail.
    for _ in range(2):
        model(torch.randn(3, 4)).sum().backward()
    assert model[0].weight.grad is not None
