"""An image that a model's image processor refuses costs its own sample, wherever it is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval import evaluate
from emu2eval.encoders.checkpoint import CheckpointEncoder
from emu2eval.errors import ImageError
from emu2eval.media.refusals import taking
from emu2eval.runs.store import RunStore
from emu2eval.types import Prompt

from ... import tiny_models
from .prompts import QUESTION, built, image, prompt, request
from .test_families import named, needs

MakeTask = Callable[..., Path]


@pytest.fixture
def task(make_task: MakeTask) -> str:
    """The third of five queries shows 1 x 400 pixels."""
    path = make_task(queries=5, pool=4)
    PILImage.new("RGB", (1, 400), "red").save(path.parent / "images" / "0002.png")
    return str(path)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "pixtral"])
@pytest.mark.parametrize("fit", [False, True])
def test_a_run_goes_on(
    model_file: Callable[..., str], task: str, family: str, fit: bool, tmp_path: Path
) -> None:
    model = model_file(family)
    (result,) = evaluate(task, model, shots=[1], out=tmp_path / "runs", fit=fit)
    row = result.rows[0]
    assert (row.n, row.unscored, result.failed, result.tally.asked) == (4, 1, 1, 4)
    lines = (result.folder / "scores.jsonl").read_text().splitlines()
    (why,) = [score["why"] for score in map(json.loads, lines) if score["value"] is None]
    assert "1 x 400 pixels" in why and "0002.png" in why


@pytest.mark.parametrize("encoder", ["model", "clip"])
def test_a_search_for_similar_images_goes_on(
    model_file: Callable[..., str],
    task: str,
    encoder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A query of that image is unscored, and as a demonstration it is never found."""
    PILImage.new("RGB", (1, 401), "blue").save(Path(task).parent / "images" / "1001.png")
    if encoder == "clip":
        encoder = str(tiny_models.clip(tmp_path / "clip"))
        own = CheckpointEncoder._processor.func  # type: ignore[attr-defined]

        def narrow(self: CheckpointEncoder) -> Any:
            def process(images: PILImage.Image, **named: Any) -> Any:
                assert images.width > 1, "too narrow"
                return own(self)(images=images, **named)

            process.to_dict = dict  # type: ignore[attr-defined]
            return process

        monkeypatch.setattr(CheckpointEncoder, "_processor", property(narrow))
    (result,) = evaluate(
        task, model_file("qwen3_vl"), shots=[3], out=tmp_path / "runs",
        changes=["task.demonstrations.chooser=rices",
                 f"task.demonstrations.options.encoder={encoder}"],
    )  # fmt: skip
    assert (result.rows[0].n, result.rows[0].unscored, result.tally.refused) == (4, 1, 1)
    answers = {answer.id: answer for answer in RunStore(result.folder).answers()}
    assert "1 x 400 pixels" in str(answers["q0002"].error)
    assert all(
        set(answer.examples) == {"q1000", "q1002", "q1003"}
        for answer in answers.values()
        if answer.error is None
    )
    record = json.loads((result.folder / "run.json").read_text())
    assert record["identity"]["data"]["chooser"]["passed_over"] == 1


def test_a_dry_run_goes_on(model_file: Callable[..., str], task: str, program: Any) -> None:
    code, _, err = program("run", "--task", task, "--model", model_file("qwen3_vl"), "--dry-run")
    assert code == 0, err


ODD = ((1, 400), (400, 1), (1, 1), (3, 3))


@pytest.mark.parametrize("name", named("works"))
def test_what_is_planned_is_asked(model_file: Callable[..., str], name: str) -> None:
    """An odd size is answered, or refused as an image: while planning, ahead and asked alike, and in one
    batch with others, which it does not change."""
    needs(name)
    adapter = built(model_file(name))
    asked = [request(Prompt(query=(image(1, size), QUESTION))) for size in ODD]
    planned: list[str | None] = []
    for one, (width, height) in zip(asked, ODD, strict=True):
        try:
            adapter.positions(one)
        except ImageError as error:
            assert f"{width} x {height} pixels" in error.what and error.where
            planned.append(str(error))
        else:
            planned.append(None)
    adapter.load()
    fine = request(prompt(1, 0))
    (wanted,) = adapter.answer([fine])
    *found, last = adapter.answer([*asked, fine])
    assert wanted.error is None and last.text == wanted.text
    for one, size, plan, got in zip(asked, ODD, planned, found, strict=True):
        assert plan is None or got.error == plan
        if got.error is None:
            continue
        assert f"{size[0]} x {size[1]} pixels" in got.error or "places" in got.error
        with pytest.raises(ImageError):
            adapter.encode_images([image(1, size)])
        if plan is not None:
            with pytest.raises(ImageError):
                adapter.prepare(one)


def test_what_is_no_fault_of_the_image_stays_itself() -> None:
    with pytest.raises(MemoryError), taking(image(1), "it"):
        raise MemoryError
    says = r"it cannot process this image of 64 x 48 pixels \(list index out of range\)"
    with pytest.raises(ImageError, match=says), taking(image(1), "it"):
        raise IndexError("list index out of range\nmore")
