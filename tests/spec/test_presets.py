"""Three lines of YAML are a few-shot classification; a file says what it wants otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from emu2eval import evaluate
from emu2eval.errors import UserError
from emu2eval.spec.presets import presets
from emu2eval.spec.task import load_task
from emu2eval.testing import ScriptedModel

from ..conftest import encoded

TASK = "name: birds\npreset: classification\ndata: {root: photos}\n"


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task file beside a folder of two classes, four images each."""
    monkeypatch.chdir(tmp_path)
    for n, name in enumerate(["robin", "sea_gull"] * 4):
        path = tmp_path / f"photos/{name}/{n}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(n))
    (tmp_path / "birds.yaml").write_text(TASK)
    return tmp_path / "birds.yaml"


def test_three_lines_are_a_classification(birds: Path, tmp_path: Path) -> None:
    (result,) = evaluate(str(birds), "most-common", shots=2, out=tmp_path / "runs")
    row = result.rows[0]
    assert (row.n, row.unscored, row.metric, row.protocol) == (4, 0, "accuracy", "ranked")
    said = ScriptedModel("It is a sea gull.")
    (result,) = evaluate(str(birds), said, shots=2, out=tmp_path / "runs", protocol="generated")
    assert (result.rows[0].value, result.rows[0].label) == (50, "accuracy/named_class")
    prompt = said.asked[0].prompt
    replies = [turn.reply for turn in prompt.turns]
    assert sorted(replies) == [("robin",), ("sea_gull",)]  # balanced
    evaluate(str(birds), said, shots=0, out=tmp_path / "runs", protocol="listed")
    assert "A. robin\nB. sea_gull" in said.asked[-1].prompt.query[1]


def test_a_file_changes_what_its_preset_says(birds: Path) -> None:
    birds.write_text(
        TASK.replace("{root: photos}", "{root: photos, splits: {val: {}}}")
        + "split: val\nscore: {scorer: exact_match}\ndemonstrations: {chooser: random, split: val}\n"
        "protocols: {mine: {ask: '{image}'}}\nprotocol: mine\n"
    )
    task = load_task(str(birds))
    assert (task.spec.data.reader, list(task.spec.data.splits)) == ("image-folder", ["val"])
    assert (task.spec.score.scorer, task.spec.demonstrations.chooser) == ("exact_match", "random")
    assert set(task.spec.protocols) == {"ranked", "generated", "listed", "mine"}
    assert task.document.where(("split",)) == f"{birds}:4"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("preset: classificaton", "did you mean 'classification'"),
        ("preset: [classification]", "must be a name"),
        ("preset: ../vqav2", "unknown preset"),
    ],
)
def test_a_preset_that_is_none(birds: Path, line: str, says: str) -> None:
    birds.write_text(TASK.replace("preset: classification", line))
    with pytest.raises(UserError, match=says) as caught:
        load_task(str(birds))
    assert str(caught.value.where) == f"{birds}:2"


def test_presets_are_shipped() -> None:
    assert list(presets()) == ["choices", "classification", "questions"]
