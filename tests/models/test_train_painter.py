"""The visual decoder's training: a short run paints, and the scale of embeddings goes into the weights."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

TRAIN = Path(__file__).resolve().parents[2] / "models" / "emu2-nano" / "train"


@pytest.fixture
def painter(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TRAIN))
    names = {file.stem for file in TRAIN.glob("*.py")}
    for name in names & sys.modules.keys():
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("painter")


@pytest.mark.slow
def test_a_short_run_writes_a_decoder_that_paints(painter: ModuleType, tmp_path: Path) -> None:
    from emu2eval.adapters.emu2.checkpoint import load_painter, open_checkpoint
    from emu2eval.adapters.emu2.model import Emu2
    from emu2eval.adapters.emu2.saving import save_folder

    torch.manual_seed(0)
    model = Emu2(painter.config(64)).eval().requires_grad_(False)
    out, work = tmp_path / "out", painter.Workspace(tmp_path)
    save_folder(out, model)
    painter.paint(model, work, out, short=True)
    checkpoint = open_checkpoint(out)
    assert checkpoint.paints
    size = sum(file.stat().st_size for file in out.rglob("diffusion*.safetensors"))
    assert size < 6.5e6

    loaded = load_painter(checkpoint, dtype=torch.float32)
    assert loaded.size == (64, 64)
    cond = torch.randn(2, 4, 64)
    first, second = loaded.paint(cond, cond[:1], [1, 2], steps=2, guidance=1.0)
    assert first.size == (64, 64) and first.tobytes() != second.tobytes()
    again, _ = loaded.paint(cond, cond[:1], [1, 2], steps=2, guidance=1.0)
    assert again.tobytes() == first.tobytes()

    # What is finished is not trained again, and comes out the same.
    files = {file: file.read_bytes() for file in out.rglob("*.safetensors")}
    painter.paint(model, work, out, short=True)
    assert files == {file: file.read_bytes() for file in files}


def test_the_scale_of_embeddings_goes_into_the_weights(painter: ModuleType) -> None:
    torch.manual_seed(0)
    unet = painter.build().eval()
    mean, scale = torch.randn(64), torch.rand(64) + 0.5
    raw, latents = torch.randn(3, 4, 64), torch.randn(3, 8, 8, 8)

    def told(network: object, cond: torch.Tensor) -> torch.Tensor:
        added = {"text_embeds": cond.mean(1), "time_ids": painter.time_ids(3)}
        with torch.no_grad():
            return network(  # type: ignore[operator, no-any-return]
                latents, 500, encoder_hidden_states=cond, added_cond_kwargs=added
            ).sample

    wanted = told(unet, (raw - mean) / scale)
    assert torch.allclose(told(painter.folded(unet, mean, scale), raw), wanted, atol=2e-5)
    assert not torch.allclose(told(unet, raw), wanted, atol=1e-2)


def test_means_are_painted_as_images_of_their_kind(painter: ModuleType) -> None:
    from material import BATCH, Material, batch, kinds

    count = 200
    kind = torch.arange(count) % 5
    known = Material(
        latents=torch.zeros(count, 8, 8, 8),
        # An embedding says its kind and nothing else, so that the mean over a kind is the kind.
        features=kind.float().view(-1, 1, 1).expand(-1, 4, 64).contiguous(),
        nothing=torch.full((1, 4, 64), -9.0),
        kind=kind,
        large=torch.arange(count) % 2 == 0,
        real=torch.arange(count) < 50,
    )
    places, cond = batch(known, kinds(known), torch.Generator().manual_seed(0))
    off = (cond[: BATCH - 4].mean((1, 2)) - kind[places[: BATCH - 4]]).abs()
    assert off.max() < 0.1
    again, _ = batch(known, kinds(known), torch.Generator().manual_seed(0))
    assert torch.equal(places, again)
