"""A rank's share of Emu2's weights: what is read of the files, and what is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from emu2eval.adapters.emu2.checkpoint import load_model, open_checkpoint
from emu2eval.adapters.local import shares

COUNT = 4


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """Of the last rank of four, with nobody at the other ends; torch remembers which one a process is."""
    dist.init_process_group("fake", rank=COUNT - 1, world_size=COUNT, store=FakeStore())
    yield init_device_mesh("cpu", (COUNT,), mesh_dim_names=("tp",))
    dist.destroy_process_group()


@pytest.mark.parametrize("pickled", [False, True])
def test_a_rank_reads_its_share_one_tensor_at_a_time(
    folders: dict[str, Path],
    mesh: DeviceMesh,
    pickled: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = folders["base"]
    if pickled:
        (file,) = folder.glob("*.safetensors")
        torch.save(load_file(file), tmp_path / "pytorch_model.bin")
        for other in folder.glob("*.*"):
            if other != file:
                (tmp_path / other.name).write_bytes(other.read_bytes())
        folder = tmp_path
    read: dict[str, torch.Tensor] = {}

    def counted(wanted: object) -> Iterator[tuple[str, torch.Tensor]]:
        for name, part in genuine(wanted):  # type: ignore[arg-type]
            read[name] = part.clone()
            yield name, part

    genuine = shares.read_shares
    monkeypatch.setattr(shares, "read_shares", counted)
    checkpoint = open_checkpoint(folder)
    whole = load_model(checkpoint, dtype=torch.float32).state_dict()
    model = load_model(checkpoint, dtype=torch.float32, mesh=mesh)
    assert {name: tuple(w.shape) for name, w in model.named_parameters()} == {
        name: tuple(w.shape) for name, w in whole.items()
    }
    for name, weight in model.named_parameters():
        own = shares.local(weight)
        if name not in read:
            assert torch.equal(own, whole[name]) and own.shape == weight.shape
            continue
        # By rows where a layer begins, by columns where it ends.
        dim = 1 if name.endswith(("o_proj.weight", "down_proj.weight")) else 0
        assert torch.equal(own, whole[name].chunk(COUNT, dim)[-1])
        assert read[name].numel() == own.numel()
    layers = [name for name in whole if ".layers." in name and "norm" not in name]
    assert set(layers) < set(read) and "decoder.lm.lm_head.weight" in read
