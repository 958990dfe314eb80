"""8- and 4-bit weights: which modules change, and how far the numbers move."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from emu2eval.adapters.emu2.checkpoint import load_model, open_checkpoint
from emu2eval.adapters.emu2.config import DecoderConfig, Emu2Config, VisionConfig
from emu2eval.adapters.emu2.model import Emu2
from emu2eval.adapters.emu2.quantize import (
    quantizable,
    quantize_decoder,
)
from emu2eval.adapters.emu2.saving import save_folder
from emu2eval.adapters.local.bits import quantized_bytes
from emu2eval.errors import MissingExtra

from .golden_weights import fill

# Wide enough that a block of 64 weights is not a whole row.
CONFIG = Emu2Config(
    VisionConfig(56, 14, 32, 2, 8, 2.0),
    DecoderConfig(128, 256, 4, 2, 400),
    n_query=4,
    v_query=4,
)


def test_only_the_linear_layers_inside_decoder_blocks_change() -> None:
    with torch.device("meta"):
        model = Emu2(CONFIG)
    names = [name for name, _ in quantizable(model)]
    projections = [f"self_attn.{x}_proj" for x in "qkvo"]
    projections += [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    wanted = {f"decoder.lm.model.layers.{i}.{p}" for i in range(2) for p in projections}
    assert set(names) == wanted


def test_seven_eighths_of_the_published_weights_change() -> None:
    with torch.device("meta"):
        model = Emu2(Emu2Config.official("base"))
    changed = sum(linear.weight.numel() for _, linear in quantizable(model))
    assert changed == 60 * (4 * 6656**2 + 3 * 6656 * 17920)
    assert 0.86 < changed / sum(p.numel() for p in model.parameters()) < 0.88


def test_bytes() -> None:
    shape = torch.Size((256, 128))
    assert quantized_bytes(shape, 8) == 256 * 128 + 256 * 4
    assert quantized_bytes(shape, 4) == 256 * 128 // 2 + 256 * 128 // 64 * 4


def test_bitsandbytes_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with torch.device("meta"):
        model = Emu2(CONFIG)
    with pytest.raises(MissingExtra, match="bitsandbytes"):
        quantize_decoder(model, 8, torch.float32)


needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="8- and 4-bit weights need bitsandbytes (pip install bitsandbytes)",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = Emu2(CONFIG)
    fill(model, 3)
    path = tmp_path_factory.mktemp("quantised") / "model"
    save_folder(path, model)
    return path


def hidden(model: Emu2) -> torch.Tensor:
    ids = torch.arange(3, 19).view(2, 8)
    embeds = model.embed(ids, torch.zeros_like(ids, dtype=torch.bool), None)
    return model.read(embeds).float()


@needs_bitsandbytes
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bits, apart", [(8, 0.03), (4, 0.3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_move_little(
    folder: Path, bits: Any, apart: float, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    opened = open_checkpoint(folder)
    with torch.inference_mode():
        plain = hidden(load_model(opened, dtype=torch.float32))
        model = load_model(opened, dtype=dtype, quantize=bits)
        rough = hidden(model)
    assert "will be cast" not in caplog.text
    assert 0 < (rough - plain).norm() / plain.norm() < apart
    whole = {n for n, p in model.named_parameters() if p.dtype == dtype}
    quantised = {n for n, p in model.named_parameters() if p.dtype in (torch.int8, torch.uint8)}
    assert quantised == {f"{name}.weight" for name, _ in quantizable(Emu2(CONFIG))}
    assert {"project_up.weight", "decoder.lm.lm_head.weight", "visual.pos_embed"} <= whole
