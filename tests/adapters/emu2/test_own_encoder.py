"""Demonstrations chosen through the evaluated Emu2's own vision tower."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import current_thread
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from emu2eval import evaluate
from emu2eval.adapters.emu2.adapter import Emu2Adapter
from emu2eval.adapters.emu2.vision import normalised, pixels
from emu2eval.adapters.local.encoded import Shown
from emu2eval.identity import request_key
from emu2eval.media import images
from emu2eval.runs.store import RunStore
from emu2eval.types import Image, Prompt, Request, TextOutput

from .conftest import built

MakeTask = Callable[..., Path]


def rices(**options: Any) -> dict[str, Any]:
    options = {"encoder": "model", **options}
    return {"demonstrations": {"split": "train", "chooser": "rices", "options": options}}


def model_file(folder: Path, where: Path, name: str, **settings: Any) -> str:
    path = where / f"{name}.yaml"
    own = {"checkpoint": str(folder), "dtype": "float32", **settings}
    path.write_text(yaml.safe_dump({"name": name, "adapter": "emu2", "settings": own}))
    return str(path)


def test_features_are_the_mean_of_the_patches(folders: dict[str, Path], tmp_path: Path) -> None:
    task_images = [images.from_pil(image) for image in _drawn(3)]
    adapter = built(folders["base"], dtype="float32")
    adapter.load()
    inference = adapter._inference
    assert inference is not None
    encoder, threads = inference.reader.encoder, set()
    own = encoder.decode
    # Those that it does not decode itself are decoded on other threads, ahead of the encoder.
    encoder.ahead.make = lambda shown: threads.add(current_thread()) or own(shown)
    taken = encoder.ahead.take
    encoder.ahead.take = lambda shown: sleep(0.05) or taken(shown)
    found = adapter.encode_images(task_images)
    assert threads and current_thread() not in threads
    model = inference.model
    for row, image in zip(found, task_images, strict=True):
        given = pixels(images.load(image), model.config.vision.image_size)[None]
        with torch.inference_mode():
            expected = model.visual(given)[0, 1:].mean(dim=0)
        np.testing.assert_allclose(row, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_images_are_decoded_ahead_in_eight_bits(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A quarter of the memory and of the disk, and the very numbers of `pixels`; a repeat decodes nothing."""
    monkeypatch.setenv("EMU2EVAL_CACHE", str(tmp_path))
    first, second = (images.from_pil(image) for image in _drawn(2))
    prompt = Prompt(query=(first, second, "what?"))
    asked = Request(request_key(prompt, TextOutput(2), "test"), prompt, TextOutput(2))
    decoded: list[Shown] = []
    texts = []
    for _ in range(2):
        adapter = built(folders["base"], dtype="float32", keep_images=0.01)
        adapter.load()
        assert adapter._inference is not None
        encoder = adapter._inference.reader.encoder
        own = encoder.decode
        monkeypatch.setattr(encoder, "decode", lambda one, own=own: decoded.append(one) or own(one))
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(adapter.prepare, [asked, asked]))
        assert len(decoded) == 2
        size = encoder.model.config.vision.image_size
        assert encoder.ahead.nbytes == 2 * 3 * size * size
        monkeypatch.setattr(encoder.ahead, "make", None)
        texts.append(adapter.answer([asked])[0].text)
        assert encoder.ahead.nbytes == 0
        grey = own(Shown(first, 1)).values["pixels"]
        assert torch.equal(normalised(grey), pixels(images.load(first), size))
        adapter.close()
    assert texts[0] == texts[1]
    assert len(list((tmp_path / "prepared").rglob("*.safetensors"))) == 2


def test_answers_use_all_threads_whatever_thread_they_are_made_on(
    folders: dict[str, Path],
) -> None:
    """Those that prepare images use one; the model is asked on one of its own, and may decode there."""
    one, two = (images.from_pil(image) for image in _drawn(2))
    asked = [
        Request(request_key(prompt, TextOutput(1), "test"), prompt, TextOutput(1))
        for prompt in (Prompt(query=(one, "what?")), Prompt(query=(two, "what?")))
    ]
    adapter = built(folders["base"], dtype="float32")
    adapter.load()

    def counted(work: Any, given: Any) -> int:
        torch.set_num_threads(3)
        work(given)
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(counted, adapter.answer, asked[:1]).result() == 3
        assert threads.submit(counted, adapter.prepare, asked[1]).result() == 1
    adapter.close()
    torch.set_num_threads(1)


def test_an_image_goes_through_the_tower_once_on_a_machine(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A second process neither decodes nor encodes what another did; a model of another dtype uses none of
    it; the answers are those without the disk."""
    monkeypatch.setenv("EMU2EVAL_CACHE", str(tmp_path))
    first, second = (images.from_pil(image) for image in _drawn(2))
    prompt = Prompt(query=(first, second, "what?"))
    asked = Request(request_key(prompt, TextOutput(2), "test"), prompt, TextOutput(2))
    seen, texts, pooled = [], [], []
    kinds = [
        {},
        {"keep_features": 0.01},
        {"keep_features": 0.01},
        {"keep_features": 0.02, "dtype": "bfloat16"},
        {"keep_features": 0.01, "reuse": False},
    ]
    for settings in kinds:
        adapter = built(folders["base"], **{"dtype": "float32", **settings})
        adapter.load()
        assert adapter._inference is not None
        encoder = adapter._inference.reader.encoder
        made: list[str] = []
        for name in ("decode", "encode"):
            own = getattr(encoder, name)

            def counted(*given: Any, own: Any = own, name: str = name, made: Any = made) -> Any:
                made.append(name)
                return own(*given)

            monkeypatch.setattr(encoder, name, counted)
        encoder.ahead.make = encoder._arrays
        adapter.prepare(asked)
        texts.append(adapter.answer([asked])[0].text)
        seen.append(sorted(made))
        pooled.append([features.pooled for features in encoder._held.values()])
        adapter.close()
    both = ["decode"] * 2 + ["encode"] * 2
    assert seen == [both, both, [], both, both]
    assert texts[0] == texts[1] == texts[2] == texts[4]
    assert all(map(torch.equal, pooled[0], pooled[2]))
    assert {one.dtype for one in pooled[3]} == {torch.bfloat16}
    assert len(list((tmp_path / "encoded").iterdir())) == 2
    assert "keep_features" in Emu2Adapter.neutral


@pytest.mark.parametrize(
    ("device", "given", "room"),
    [("cuda", None, 32), ("cpu", None, 0), ("cuda", 0, 0), ("cpu", 2.5, 2.5)],
)
def test_features_are_kept_where_that_saves_time(
    folders: dict[str, Path], device: str, given: float | None, room: float
) -> None:
    adapter = built(folders["base"], keep_features=given)
    assert adapter._room_for_features(torch.device(device)) == room


def _drawn(count: int) -> list[Any]:
    from PIL import Image as PILImage

    return [
        PILImage.fromarray(np.random.default_rng(n).integers(0, 256, (20, 20, 3), dtype=np.uint8))
        for n in range(count)
    ]


def test_a_run_chooses_through_its_model(
    folders: dict[str, Path], make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(queries=3, pool=8, **rices())
    tiny = model_file(folders["base"], tmp_path, "tiny")
    other = model_file(folders["chat"], tmp_path, "other")
    results = evaluate(str(task), [tiny, other], shots=[2])
    assert [result.rows[0].unscored for result in results] == [0, 0]
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2

    adapter = built(folders["base"], dtype="float32")
    adapter.load()
    folder = task.parent / "images"
    names = sorted(path.stem for path in folder.iterdir())
    made = adapter.encode_images([Image(str(folder / f"{name}.png")) for name in names])
    unit = made.astype(np.float64) / np.linalg.norm(made, axis=1, keepdims=True)
    for answer in RunStore(results[0].folder).answers():
        query = unit[names.index(answer.id[1:])]
        shown = [query @ unit[names.index(name[1:])] for name in answer.examples]
        rest = [
            query @ unit[names.index(name)]
            for name in names
            if int(name) >= 1000 and f"q{name}" not in answer.examples
        ]
        assert shown == sorted(shown)
        assert shown[0] >= max(rest) - 1e-4

    # How the model answers does not change how it sees: nothing is encoded again.
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")}
    slower = model_file(folders["base"], tmp_path, "tiny-wide", beams=2)
    (again,) = evaluate(str(task), slower, shots=[2])
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")} == before
    assert again.tally.kept == 0
