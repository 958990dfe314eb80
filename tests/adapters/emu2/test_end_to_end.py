"""A tiny Emu2 through the ordinary engine and command line: files of a checkpoint in, a table out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from emu2eval import evaluate
from emu2eval.errors import PlanError
from emu2eval.runs.store import RunStore


def model_file(folder: Path, where: Path, **settings: Any) -> str:
    path = where / "tiny.yaml"
    spec = {
        "name": "tiny-emu2",
        "adapter": "emu2",
        "settings": {"checkpoint": str(folder), "dtype": "float32", **settings},
    }
    path.write_text(yaml.safe_dump(spec))
    return str(path)


def scores(folder: Path) -> list[tuple[str, float, str]]:
    lines = (folder / "scores.jsonl").read_text().splitlines()
    return [(row["id"], row["value"], row["prediction"]) for row in map(json.loads, lines)]


@pytest.mark.slow
def test_from_the_command_line(folders: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emu2eval.cli", "run", "--task", "easy-vqa"]
    options = [
        "--model",
        model_file(folders["base"], tmp_path),
        "--shots",
        "0",
        "4",
        "--limit",
        "6",
    ]
    done = subprocess.run(
        [*command, *options, "--protocol", "emu2", "-f", "json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [(row["shots"], row["n"], row["unscored"]) for row in json.loads(done.stdout)] == [
        ("0", 6, 0),
        ("4", 6, 0),
    ]


@pytest.mark.parametrize("variant", ["base", "chat"])
def test_scores_do_not_depend_on_batch_or_reuse(
    folders: dict[str, Path], tmp_path: Path, variant: str
) -> None:
    found = []
    for number, settings in enumerate(({"batch": 1, "reuse": False}, {"batch": 5, "reuse": True})):
        model = model_file(folders[variant], tmp_path, **settings)
        (result,) = evaluate(
            "easy-vqa", model, shots=[3], limit=10, protocol="emu2", out=tmp_path / f"{number}",
            changes=["task.demonstrations.chooser=fixed"],
        )  # fmt: skip
        found.append(scores(result.folder))
    assert found[0] == found[1]


def test_ranked_choices_through_the_engine(folders: dict[str, Path], tmp_path: Path) -> None:
    changes = [
        "task.output.kind=choice",
        "task.output.choices=[yes, no]",
        "task.score.scorer=choice",
        "task.score.clean=[]",
    ]
    (result,) = evaluate(
        "easy-vqa", model_file(folders["base"], tmp_path), shots=[2], limit=6, changes=changes,
        out=tmp_path,
    )  # fmt: skip
    assert result.rows[0].n == 6
    answer = next(iter(RunStore(result.folder).answers()))
    assert answer.log_probs is not None and len(answer.log_probs) == 2


def test_what_is_too_long_is_refused_or_shortened_and_marked(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    model = model_file(folders["base"], tmp_path, max_positions=220)
    with pytest.raises(PlanError, match="positions, but tiny-emu2 has 220") as caught:
        evaluate("easy-vqa", model, shots=[8], limit=6, out=tmp_path / "runs")
    assert "--fit" in str(caught.value.hint)
    assert not (tmp_path / "runs").exists()
    (result,) = evaluate("easy-vqa", model, shots=[8], limit=6, fit=True, out=tmp_path / "runs")
    assert (result.rows[0].n, result.rows[0].shortened) == (6, 6)
    for answer in RunStore(result.folder).answers():
        assert 1 <= answer.left_out <= 7 and len(answer.examples) == 8 - answer.left_out
        assert answer.tokens_in is not None and answer.tokens_in <= 220


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
def test_images_are_written_and_the_same_again(folders: dict[str, Path], tmp_path: Path) -> None:
    """Text to image through the engine: the digests do not depend on batch, limit or restart."""
    found = []
    for number, (batch, limits) in enumerate(((1, (3,)), (2, (1, 3)))):
        model = model_file(folders["gen"], tmp_path, batch=batch)
        for limit in limits:
            (result,) = evaluate(
                "easy-vqa-draw", model, limit=limit, out=tmp_path / f"{number}",
                changes=["task.output.steps=2", "task.output.width=64", "task.output.height=64"],
            )  # fmt: skip
        images = {answer.id: answer.images[0] for answer in RunStore(result.folder).answers()}
        assert result.rows[0].n == len(images) == 3
        stored = {path.stem for path in (result.folder / "images").glob("*.png")}
        assert stored == set(images.values())
        found.append(images)
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 3
