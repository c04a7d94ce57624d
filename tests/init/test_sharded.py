"""Tensors spread over processes: every rank draws its part of one whole."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from fanin import init

NAMES = (
    "normal_",
    "uniform_",
    "trunc_normal_",
    "xavier_uniform_",
    "kaiming_normal_",
    "orthogonal_",
)
SHAPE = (10, 6)


def _rank(rank: int, world: int, port: int, folder: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Partial, Replicate, Shard, zeros

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    drawn = {}
    for placement in (Shard(0), Shard(1), Replicate()):
        for name in NAMES:
            torch.manual_seed(3)
            spread = zeros(SHAPE, device_mesh=mesh, placements=[placement])
            assert getattr(init, name)(spread) is spread
            drawn[f"{name} {placement}"] = spread.full_tensor()
    partial = zeros(SHAPE, device_mesh=mesh, placements=[Partial()])
    try:
        init.normal_(partial)
    except RuntimeError as error:
        drawn["partial"] = str(error)
    torch.save(drawn, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_any_placement_holds_the_values_of_one_process(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_rank, (2, port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        drawn = torch.load(tmp_path / f"{rank}.pt")
        assert "cannot be drawn" in drawn.pop("partial")
        for key, value in drawn.items():
            torch.manual_seed(3)
            alone = getattr(init, key.split()[0])(torch.zeros(SHAPE))
            assert torch.equal(value, alone), key
