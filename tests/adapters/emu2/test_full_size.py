"""Emu2 at its full width on devices that exist by name only: what a plan promises is kept.

torch's fake tensors have shapes and devices but no data. They refuse to mix devices as GPUs do, and their
storage can be added up; so no GPU is needed to see that a placed model runs and what it takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from emu2eval.adapters.emu2 import loading, sdxl
from emu2eval.adapters.emu2.budget import measure
from emu2eval.adapters.emu2.config import Emu2Config
from emu2eval.adapters.emu2.features import TowerEncoder
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.placement import plan
from emu2eval.adapters.emu2.reading import Emu2Reader
from emu2eval.adapters.local import kernels
from emu2eval.adapters.local.cache import held_bytes
from emu2eval.adapters.local.encoded import Encoded
from emu2eval.adapters.local.inference import Inference
from emu2eval.adapters.local.placement import Placement
from emu2eval.adapters.local.tensorfile import StoredTensor

from ...alive import Peak

BF16 = torch.bfloat16


def stand_in(device: int | str) -> str:
    """A name for a GPU that torch built without one accepts: all but "cpu" itself are far away."""
    return f"cpu:{device + 1}" if isinstance(device, int) else device


def empty_on(module: torch.nn.Module, device: str, dtype: torch.dtype) -> None:
    for name, parameter in list(module.named_parameters()):
        parent, _, leaf = name.rpartition(".")
        empty = torch.empty(parameter.shape, dtype=dtype, device=device)
        module.get_submodule(parent).register_parameter(
            leaf, torch.nn.Parameter(empty, requires_grad=False)
        )


@pytest.fixture
def fake() -> Iterator[None]:
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        yield


def prompts(count: int, length: int, first: int) -> list[Encoded]:
    """Prompts that share all but their last 40 positions."""
    shared = [first] * (length - 40)
    return [Encoded((*shared, *[100 + i] * 40), (False,) * length) for i in range(count)]


def fused(
    query: torch.Tensor, keys: torch.Tensor, *_: object, **__: object
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)


@pytest.mark.slow
def test_chat_on_four_devices(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    config, batch, beams, length, new = Emu2Config.official("chat"), 2, 5, 1400, 3
    # A quarter of the blocks takes a quarter of the time and shows the same.
    config = replace(
        config,
        vision=replace(config.vision, layers=16),
        decoder=replace(config.decoder, num_hidden_layers=15),
    )
    planned = plan(
        config, "4x8GiB", positions=length + new, batch=batch, beams=beams, new_tokens=new
    )
    assert {str(device) for device in planned.device_map.values()} == set("0123")
    named = {name: stand_in(device) for name, device in planned.device_map.items()}
    placement: Placement = replace(planned, device_map=named, main=stand_in(planned.main))
    model = Emu2(config)
    stored = {
        name: StoredTensor(Path("a.safetensors"), name, tuple(parameter.shape), BF16, 0)
        for name, parameter in model.named_parameters()
    }
    monkeypatch.setattr(
        loading,
        "stream",
        lambda pairs, *_: ((name, torch.empty(found.shape, dtype=BF16)) for name, found in pairs),
    )
    loading._fill_and_dispatch(model, stored, BF16, placement, None)

    weights: Counter[str] = Counter()
    for parameter in model.parameters():
        weights[str(parameter.device)] += parameter.nbytes
    assert weights == {stand_in(use.device): use.weights for use in planned.devices}

    # As a GPU's fused kernel, which nothing fake can be compared with.
    monkeypatch.setattr(kernels, "part", fused)
    monkeypatch.setattr(kernels, "right", lambda query: kernels.KERNELS)
    reader = Emu2Reader(model, TowerEncoder(model))
    asked = Inference(reader)
    assert asked.prefix is not None
    with Peak(model.parameters()) as seen:
        features = model.encode_images(torch.empty(8, 3, 448, 448, dtype=BF16))
        assert features.shape == (8, 256, 1792)
        # A beginning is remembered; then come prompts that do not share it, nor one of their own.
        alike = prompts(batch, length, first=5)
        shared = asked.prefix.shared(alike)
        assert shared == length - 40
        asked._read(reader.rows(alike, shared), alike, shared)
        unlike = [prompts(1, length, first=6 + i)[0] for i in range(batch)]
        assert asked.prefix.shared(unlike) == 0
        cache, first = asked._read(reader.rows(unlike), unlike, 0)
        assert first is not None
        prompt = held_bytes(cache)
        cache = reader.spread(cache, beams)
        rows = torch.arange(batch * beams)
        for _ in range(new):
            cache.reorder_cache(rows)
            ids = torch.zeros(batch * beams, 1, dtype=torch.long)
            embeds = model.embed(ids, ids.bool(), None)
            hidden = model.read(embeds, None, cache)[:, -1]
            scores = model.logits(hidden).log_softmax(-1)
        again = model.up(model.down(hidden))
    held = prompt + held_bytes(cache) + held_bytes(asked.prefix.kept[-1].cache)
    assert held <= sum(use.cache for use in planned.devices)
    main = torch.device(stand_in(planned.main))
    assert {t.device for t in (hidden, scores, again)} == {main}
    for use in planned.devices:
        taken = seen.peak[stand_in(use.device)]
        assert taken <= use.cache + use.activations, f"{use.device}: {taken:,} bytes"
        # An estimate far above what is needed would refuse what fits.
        assert use.cache + use.activations <= 2 * taken + (1 << 30)


@pytest.mark.slow
def test_painting_stays_within_its_estimate(fake: None) -> None:
    import diffusers

    need = measure(
        Emu2Config.official("gen"),
        positions=300,
        batch=1,
        beams=1,
        new_tokens=64,
        dtype=BF16,
        quantize=None,
    )
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(dict(sdxl.UNET)).requires_grad_(False)
        vae = diffusers.AutoencoderKL.from_config(dict(sdxl.VAE)).requires_grad_(False)
    rows, device = 2, "cpu:1"  # both halves of the guidance
    for module in (unet, vae):
        empty_on(module, device, BF16)
    assert need.painter_weights == sum(p.nbytes for m in (unet, vae) for p in m.parameters())

    def made(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=BF16, device=device)

    with Peak([*unet.parameters(), *vae.parameters()]) as seen:
        added = {"text_embeds": made(rows, 1792), "time_ids": made(rows, 6)}
        unet(
            made(rows, 4, 128, 128),
            torch.empty((), device=device),
            encoder_hidden_states=made(rows, 64, 1792),
            added_cond_kwargs=added,
        )
        image = vae.decode(made(1, 4, 128, 128), return_dict=False)[0]
    assert image.shape == (1, 3, 1024, 1024)
    # Fake tensors know nothing of the workspace that convolutions take, so the estimate is well above.
    assert 1.5 * seen.peak[device] <= need.painter_activations
