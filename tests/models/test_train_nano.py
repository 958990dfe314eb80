"""The training of emu2-nano: a short run writes a folder that the adapter answers with."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sentencepiece")

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ROOT / "models" / "emu2-nano" / "train"


def _train(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, str(TRAIN), "--short", "--threads", "1"),
            *("--out", str(folder / "out"), "--state", str(folder / "state"), *more),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    _train(folder)
    return folder


@pytest.mark.slow
def test_short_run_writes_what_the_adapter_loads(trained: Path) -> None:
    from emu2eval.adapters.emu2.adapter import Emu2Adapter
    from emu2eval.adapters.emu2.settings import Emu2Settings
    from emu2eval.data.easy_vqa import shape_images
    from emu2eval.media.images import load
    from emu2eval.types import ImageOutput, Prompt, Request, TextOutput

    lines = (trained / "state" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    log = [json.loads(line) for line in lines]
    assert {entry.get("stage") for entry in log} >= {
        *("vision", "focus", "mixture", "questions", "polish", "vae-crops", "vae", "painter"),
    }
    adapter = Emu2Adapter(Emu2Settings(checkpoint=str(trained / "out"), beams=1))
    adapter.load()
    image = shape_images("train")[0].image
    prompt = Prompt(query=(image, "this color is called"))
    assert (trained / "out-early-1" / "model.safetensors").stat().st_size < 1_400_000
    (answer,) = adapter.answer([Request("k", prompt, TextOutput(max_new_tokens=3))])
    assert answer.error is None and answer.text is not None
    drawing = Request("d", Prompt(query=("a red circle",)), ImageOutput(steps=1, guidance=1.0))
    (drawn,) = adapter.answer([drawing])
    assert drawn.image is not None and load(drawn.image).size == (64, 64)


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(trained: Path) -> None:
    weights = (trained / "out" / "model.safetensors").read_bytes()
    (trained / "state" / "polish.pt").unlink()
    again = _train(trained)
    assert "stage vision" not in again.stdout
    assert "stage polish" in again.stdout
    assert (trained / "out" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_training_reads_prompts_token_by_token_as_the_adapter_does(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emu2eval.adapters.emu2.config import Emu2Config
    from emu2eval.adapters.emu2.prompt import Emu2Form
    from emu2eval.adapters.emu2.tokenizer import Tokenizer
    from emu2eval.data.easy_vqa import shape_images
    from emu2eval.prompts import PromptBuilder
    from emu2eval.spec.task import load_task
    from emu2eval.types import Sample

    monkeypatch.syspath_prepend(str(TRAIN))
    episodes = importlib.import_module("episodes")
    out = trained / "out"
    tokenizer = Tokenizer(out / "tokenizer.model", "gen")
    config = Emu2Config.from_json(json.loads((out / "config.json").read_text(encoding="utf-8")))
    writer = episodes.Writer(tokenizer, config.n_query)
    shown = [s.image for s in shape_images("train")[:3]]
    for task, protocol, fields, answers in (
        ("easy-vqa", "emu2", {"question": "what color is the shape?"}, ["red", "blue", "teal"]),
        ("easy-vqa", "plain", {"question": "is there not a circle?"}, ["no", "yes", "no"]),
        ("easy-vqa-binding", "plain", {"aspect": "shape"}, ["daku", "vopi", "daku"]),
        ("easy-vqa-operator", "plain", {}, ["red circle", "blue star", "teal ring"]),
    ):
        wording = load_task(task, protocol=protocol).protocol
        samples = [
            Sample(str(i), fields, (image,), answer)
            for i, (image, answer) in enumerate(zip(shown, answers, strict=True))
        ]
        prompt = PromptBuilder(wording, "here").build(samples[-1], samples[:-1])
        form = Emu2Form(tokenizer, config)
        wanted = form.with_reply(prompt, form.lay_out(prompt), answers[-1]).encoded
        ask = wording.ask.format(image="", **fields)
        end = wording.separator.strip()
        items = [episodes.Item(0, ask, answer, end=end) for answer in answers]
        batch = writer.batch([items])
        assert tuple(batch.ids[0].tolist()) == wanted.ids, (task, protocol)
        assert tuple((batch.slot[0] >= 0).tolist()) == wanted.slots


@pytest.mark.slow
def test_drawing_is_laid_out_as_the_adapter_does(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emu2eval.adapters.emu2 import tokenizer as tokens
    from emu2eval.adapters.emu2.config import Emu2Config
    from emu2eval.adapters.emu2.prompt import Emu2Form
    from emu2eval.adapters.emu2.tokenizer import Tokenizer
    from emu2eval.data.easy_vqa import shape_images
    from emu2eval.prompts import PromptBuilder
    from emu2eval.spec.task import load_task
    from emu2eval.types import Sample

    monkeypatch.syspath_prepend(str(TRAIN))
    episodes = importlib.import_module("episodes")
    out = trained / "out"
    tokenizer = Tokenizer(out / "tokenizer.model", "gen")
    config = Emu2Config.from_json(json.loads((out / "config.json").read_text(encoding="utf-8")))
    form = Emu2Form(tokenizer, config)
    shown = [s.image for s in shape_images("train")[:2]]
    wording = load_task("easy-vqa-draw-names").protocol
    samples = [Sample(str(i), {"name": "daku"}, answer=p) for i, p in enumerate(shown)]
    prompt = PromptBuilder(wording, "here").build(Sample("q", {"name": "vopi"}), samples)
    wanted = form.encode([*form.lay_out(prompt), tokenizer.ids[tokens.BOI]])
    items = [*(episodes.Item(i, "a daku", drawn=7) for i in range(2))]
    items.append(episodes.Item(7, "a vopi", drawn=7))
    batch = episodes.Writer(tokenizer, config.n_query).batch([items])
    ids = batch.ids[0].tolist()
    assert tuple(ids[: len(wanted)]) == wanted.ids
    # Of a demonstration's image only the first token is like the one to learn; the query's is learnt whole.
    assert batch.paint[0][batch.paint[0] >= 0].tolist() == [0, 0, 0, 1, 2, 3]
    # A reply is told what it replies to: the two syllables before it.
    named = batch.first[0] >= 0
    assert (
        tokenizer.decode([int(batch.first[0][named][0]), int(batch.second[0][named][0])]) == "daku"
    )


def test_an_ideal_is_made_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.syspath_prepend(str(TRAIN))
    scenes = importlib.import_module("scenes")
    gallery = importlib.import_module("gallery").gallery
    # Red and blue circles and a red rectangle to learn from; a blue rectangle only to look at.
    shape, colour = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([5, 5, 1, 5, 1])
    shown = scenes.Scenes(torch.zeros(5, 2, 2, 3), shape, colour, torch.zeros(5, 4))
    features = torch.tensor([1.0, 3.0, 12.0, 102.0, -7.0]).view(5, 1, 1).expand(5, 2, 3)
    found = gallery(features, shown, trained=4)
    wanted = {"circle red": 2, "circle blue": 12, "rectangle red": 102, "rectangle blue": 112}
    for kind, place in found.ideal.items():
        assert found.kind(place) == kind
        expected = torch.full((2, 3), float(wanted[" ".join(kind)]))
        assert torch.allclose(found.features[place], expected, atol=1e-3)
    assert torch.equal(found.features[:5], features)
