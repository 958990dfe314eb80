"""A task and a part of each kind that somebody else wrote, by the public names alone; and what becomes of
one that is broken."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import emu2eval
from emu2eval import Mark, PartError, UserError, evaluate
from emu2eval.testing import ScriptedModel, small_task

HERE = Path(__file__).parent
OUTSIDER = HERE / "outsider"
TASK, MODEL = OUTSIDER / "birds.yaml", OUTSIDER / "sketcher.yaml"


@pytest.fixture(autouse=True)
def _on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a checkout of somebody's, from whose folder the program is run."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where tracebacks go


def test_they_know_public_names_alone() -> None:
    named = set()
    for path in OUTSIDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emu2eval"):
                assert node.module == "emu2eval", f"{path.name} imports {node.module}"
                named |= {alias.name for alias in node.names}
    assert named <= set(emu2eval.__all__)
    wanted = "Adapter Chooser Demonstration Encoder Mark Output Sample Scorer Settings"
    assert named >= set(wanted.split())


def test_a_task_with_parts_of_each_kind(tmp_path: Path) -> None:
    (result,) = evaluate(TASK, MODEL, shots=1, out=tmp_path)
    whole, mean = (row for row in result.rows if row.group is None)
    # The last wren sits elsewhere than the first, which it is shown.
    assert (whole.label, whole.value, whole.n) == ("box_overlap/0.4", 80, 5)
    assert mean.label == "mean_overlap"
    assert mean.value == pytest.approx((2 * 80 / 120 + 2 * 64 / 72) / 5)
    assert whole.marks == ((Mark("ink", "blue"), 5),)
    assert {row.group for row in result.rows} == {None, "bird: robin", "bird: wren"}


def test_text_and_image_of_one_answer_are_both_stored(tmp_path: Path) -> None:
    from emu2eval.runs.answers import from_line

    (result,) = evaluate(TASK, MODEL, shots=1, limit=1, out=tmp_path)
    lines = (result.folder / "responses.jsonl").read_bytes().splitlines(keepends=True)
    (answer,) = map(from_line, lines)
    assert (answer.raw or "").startswith("it sits at [")
    assert len((answer.text or "").split()) == 4
    assert (len(answer.images), answer.ended) == (1, "stop")
    assert len(list((result.folder / "images").iterdir())) == 1


def test_found_by_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed package declares them: a real distribution's folder on the path."""
    info = tmp_path / "site" / "outsider-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outsider\nVersion: 1.0\n")
    points = {
        "adapters": "sketcher = outsider.adapter:Sketcher",
        "choosers": "same-bird = outsider.chooser:SameBird",
        "outputs": "boxed = outsider.output:BoxedImage",
        "readers": "birds = outsider.reader:read",
        "scorers": "box_overlap = outsider.scorer:BoxOverlap",
    }
    lines = (f"[emu2eval.{group}]\n{point}\n" for group, point in points.items())
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(info.parent))
    task = yaml.safe_load(TASK.read_text())
    task["data"] |= {"reader": "birds", "root": str(OUTSIDER)}
    task["demonstrations"]["chooser"] = "same-bird"
    task["output"]["kind"] = "boxed"
    task["score"]["scorer"] = "box_overlap"
    (tmp_path / "birds.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "model.yaml").write_text("name: plugged\nadapter: sketcher\n")
    (result,) = evaluate(
        tmp_path / "birds.yaml", tmp_path / "model.yaml", shots=1, out=tmp_path / "runs"
    )
    assert (result.rows[0].model, result.rows[0].value) == ("plugged", 80)


def test_an_encoder_chooses_demonstrations(tmp_path: Path) -> None:
    chosen = {"chooser": "rices", "options": {"encoder": "outsider.encoder:Quarters"}}
    (result,) = evaluate(
        TASK, MODEL, shots=1, changes={"task": {"demonstrations": chosen}}, out=tmp_path
    )
    assert result.rows[0].value == 80
    assert emu2eval.load_runs(tmp_path)["value"].sum() == 4


def test_an_adapter_as_an_object_or_a_class(tmp_path: Path) -> None:
    from outsider.adapter import Ink, Sketcher  # type: ignore[import-not-found]

    (of_object,) = evaluate(TASK, Sketcher(Ink(colour="blue")), shots=1, out=tmp_path)
    changes = {"model": {"settings": {"colour": "blue"}}}
    (of_class,) = evaluate(TASK, Sketcher, shots=1, changes=changes, out=tmp_path / "class")
    for result in (of_object, of_class):
        assert (result.rows[0].value, result.rows[0].model) == (80, "Sketcher")
        assert result.rows[0].marks == ((Mark("ink", "blue"), 5),)
    with pytest.raises(UserError, match="'black' or 'blue'"):
        evaluate(TASK, Sketcher, changes=["model.settings.colour=green"], out=tmp_path)


def test_its_conduct_can_be_checked(program: Any) -> None:
    code, printed, _ = program("check", "--adapter", "outsider.adapter:Sketcher")
    assert code == 0, printed
    assert "boxed: same alone and in a batch" in printed


def test_a_wrong_option_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at_least"):
        evaluate(TASK, MODEL, changes=["task.score.options.at_least=2"], out=tmp_path)
    with pytest.raises(UserError, match="'black' or 'blue'"):
        evaluate(TASK, MODEL, changes=["model.settings.colour=green"], out=tmp_path)


BROKEN = """
from emu2eval import Adapter, Chooser, Encoder, Limits, Response, Sample, Scorer


class Model(Adapter):
    def __init__(self):
        raise ZeroDivisionError("oh dear")

    def answer(self, requests): ...


class Loading(Adapter):
    limits = Limits(frozenset({"text"}))

    def load(self):
        raise ZeroDivisionError("oh dear")

    def answer(self, requests):
        return [Response(text="red") for _ in requests]


class Judge(Scorer):
    metric = "none"

    def score(self, sample, response):
        raise ZeroDivisionError("oh dear")


class Pick(Chooser):
    def ranked(self, query, trial):
        yield from ()
        raise ZeroDivisionError("oh dear")


class Eyes(Encoder):
    name = "eyes"

    def identity(self):
        return {}

    def encode(self, prepared):
        raise ZeroDivisionError("oh dear")


def clean(text):
    raise ZeroDivisionError("oh dear")


def read(root, **options):
    yield Sample("q1", {"question": "?"}, references=("red",), answer="red")
    raise ZeroDivisionError("oh dear")
"""

_RICES = {"split": "train", "chooser": "rices", "options": {"encoder": "broken_parts:Eyes"}}


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("adapter 'broken_parts:Model'", {}),
        ("adapter 'broken_parts:Loading'", {}),
        ("scorer 'broken_parts:Judge'", {"score": {"scorer": "broken_parts:Judge"}}),
        ("cleaner 'broken_parts:clean'", {"score": {"clean": ["broken_parts:clean"]}}),
        (
            "chooser 'broken_parts:Pick'",
            {"demonstrations": {"split": "train", "chooser": "broken_parts:Pick"}},
        ),
        ("encoder 'eyes'", {"demonstrations": _RICES}),
        ("reader 'broken_parts:read'", {"data": {"reader": "broken_parts:read"}}),
    ],
)
def test_what_a_part_raises_is_one_paragraph_that_names_it(
    tmp_path: Path, program: Any, part: str, changes: Any
) -> None:
    (tmp_path / "broken_parts.py").write_text(BROKEN)
    sys.modules.pop("broken_parts", None)
    task = small_task(tmp_path)
    model = "robot"
    robot = {"name": "robot", "adapter": "scripted", "settings": {"default": "red"}}
    if part.startswith("adapter"):
        robot = {"name": "robot", "adapter": part.split("'")[1]}
    (tmp_path / "robot.yaml").write_text(yaml.safe_dump(robot))
    spec = yaml.safe_load(task.read_text())
    for key, value in changes.items():
        spec[key] |= value
    task.write_text(yaml.safe_dump(spec))
    command = ("run", "--task", str(task), "--model", f"./{model}.yaml", "--shots", "1")
    code, _, errors = program(*command, "--out", str(tmp_path / "runs"))
    assert code == 2, errors
    assert f"the {part} failed: ZeroDivisionError: oh dear" in " ".join(errors.split())
    assert f"broken_parts.py:{1 + BROKEN[: _line(part)].count(chr(10))}" in errors
    kept = Path(errors.rpartition("the traceback is in ")[2].split()[0])
    assert 'raise ZeroDivisionError("oh dear")' in kept.read_text()
    assert kept.is_relative_to(tmp_path)
    code, _, errors = program_with_traceback(program, *command, "--out", str(tmp_path / "runs"))
    assert code == 2 and 'raise ZeroDivisionError("oh dear")' in errors


def _line(part: str) -> int:
    """Where the part raises."""
    name = part.split("'")[1].rpartition(":")[2].replace("eyes", "Eyes")
    start = (
        BROKEN.find(f"class {name}") if f"class {name}" in BROKEN else BROKEN.find(f"def {name}")
    )
    return BROKEN.find("raise ZeroDivisionError", start)


def program_with_traceback(program: Any, *command: str) -> tuple[int, str, str]:
    """`--debug` prints what `program` would not let pass."""
    from emu2eval import cli

    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "say", said.append)
        code, printed, _ = program(*command, "--debug")
    return code, printed, "\n".join(said)


def test_the_error_keeps_what_was_raised(tmp_path: Path) -> None:
    def forgetful(request: Any) -> str:
        raise ZeroDivisionError("oh dear")

    (result,) = evaluate(small_task(tmp_path), ScriptedModel(forgetful), out=tmp_path / "runs")
    assert result.rows[0].unscored == 5  # a request that fails is no fault of the run's
    with pytest.raises(PartError) as caught, emu2eval.errors.of_part("reader", "mine"):
        {}["x"]
    assert isinstance(caught.value.__cause__, KeyError)
