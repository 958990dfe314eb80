"""Reference runs: kept small, free of this machine's paths, and repeated answer by answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from emu2eval import Adapter, Limits, Request, Response, evaluate
from emu2eval.cli import app
from emu2eval.doctor import reference
from emu2eval.doctor.reference import ChangedAnswer, Repeated, keep, repeat
from emu2eval.errors import StoreError
from emu2eval.runs.record import read_record
from emu2eval.runs.scores import pack_scores, read_rows, read_scores
from emu2eval.spec.changes import Changes


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (result,) = evaluate(
        "easy-vqa-binding",
        "nearest",
        shots=[3],
        limit=40,
        changes=["task.output.max_new_tokens=4"],
        out=tmp_path / "runs",
    )
    return keep(result.folder, tmp_path / "references")


def test_a_reference_is_small_and_knows_no_place(kept: Path, tmp_path: Path) -> None:
    assert sorted(p.name for p in kept.iterdir()) == ["report.json", "run.json", "scores.jsonl.gz"]
    for name in ("run.json", "report.json"):
        assert str(tmp_path) not in (kept / name).read_text()
        assert str(Path.cwd()) not in (kept / name).read_text()
    assert read_record(kept).task.file == "easy-vqa-binding.yaml"
    assert all(row.seconds == 0 for row in read_rows(kept))
    assert list(read_scores(kept)) == list(read_scores(tmp_path / "runs" / kept.name))
    before = (kept / "scores.jsonl.gz").read_bytes()
    again = keep(tmp_path / "runs" / kept.name, tmp_path / "second")
    assert (again / "scores.jsonl.gz").read_bytes() == before


def test_the_same_code_gives_the_same_answers(kept: Path, tmp_path: Path) -> None:
    whole = repeat(kept, tmp_path / "new")
    assert (whole.compared, whole.differing) == (40, ())
    assert whole.before == whole.now is not None
    part = repeat(kept, tmp_path / "part", limit=10, device="cpu")
    assert (part.compared, part.before) == (10, None)
    assert part.agrees


def test_what_differs_is_counted_and_named(kept: Path, tmp_path: Path) -> None:
    scores = list(read_scores(kept))
    changed = [msgspec.structs.replace(score, prediction="something else") for score in scores[:2]]
    pack_scores(kept, [*changed, *scores[2:]])
    found = repeat(kept, tmp_path / "new")
    assert [each.id for each in found.differing] == [score.id for score in scores[:2]]
    assert found.differing[0].before == "something else"
    assert not found.agrees
    pack_scores(kept, scores[5:])
    with pytest.raises(StoreError, match="has no answer"):
        repeat(kept, tmp_path / "new")
    (kept / "scores.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(StoreError, match="cannot read"):
        repeat(kept, tmp_path / "new")


def test_a_reference_is_repeated_in_its_precision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a GPU the default would be bfloat16, whose answers are others."""
    (folder,) = (Path(__file__).parents[2] / "results" / "reference").glob("easy-vqa_4-shot_emu2-*")
    asked: list[Changes] = []

    def evaluate(*_: object, changes: Changes, **__: object) -> list[object]:
        asked.append(changes)
        raise StoreError("that is all")

    monkeypatch.setattr(reference, "evaluate", evaluate)
    with pytest.raises(StoreError, match="that is all"):
        repeat(folder, tmp_path, device="cuda")
    assert [changes.model for changes in asked] == [{"settings.dtype": "float32"}]


def test_a_shortened_run_is_repeated_as_it_was(tmp_path: Path) -> None:
    """The limit of positions is part of what a run is, and so is whether prompts were shortened to it."""
    model = tmp_path / "small.yaml"
    model.write_text(f"name: small\nadapter: '{__name__}:Small'\n")
    (result,) = evaluate(
        "easy-vqa-binding", str(model), shots=8, limit=20, fit=True, out=tmp_path / "runs"
    )
    assert result.rows[0].shortened == 20
    kept = keep(result.folder, tmp_path / "references")
    assert read_record(kept).fit and read_rows(kept)[0].shortened == 20


class Small(Adapter):
    """Has room for one demonstration, and repeats its reply."""

    limits = Limits(frozenset({"text"}), positions=2)

    def positions(self, request: Request) -> int:
        return 1 + len(request.prompt.turns)

    def answer(self, requests: Sequence[Request]) -> Sequence[Response]:
        return [Response(text=str(request.prompt.turns[-1].reply[0])) for request in requests]


def test_bound() -> None:
    one = ChangedAnswer("id", 0, 0, "a", "b")
    assert Repeated("r", 1.0, 1.0, 10, (one,)).agrees
    assert Repeated("r", 1.0, 1.0, 1500, (one,) * 3).agrees
    assert not Repeated("r", 1.0, 1.0, 1499, (one,) * 3).agrees


def test_unfinished_runs_are_no_reference(tmp_path: Path) -> None:
    model = tmp_path / "robot.yaml"
    model.write_text('name: robot\nadapter: scripted\nsettings: {fail: ["circle"]}\n')
    (result,) = evaluate("easy-vqa", str(model), limit=40, out=tmp_path / "runs")
    assert result.tally.failed
    with pytest.raises(StoreError, match="without unscored answers"):
        keep(result.folder, tmp_path / "references")
    with pytest.raises(StoreError, match="not a run's folder"):
        keep(tmp_path, tmp_path / "references")


def test_by_command(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    run = CliRunner()
    done = run.invoke(app, ["keep", str(tmp_path / "runs"), "--into", "results/reference"])
    assert done.exit_code == 0, done.output
    done = run.invoke(app, ["repeat", "--limit", "5"])
    assert done.exit_code == 0, done.output
    assert kept.name[:20] in done.output and "ok" in done.output


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_checkpoint_without_a_visual_decoder_needs_no_memory_for_one(number: int) -> None:
    """Emu2-nano's earlier checkpoints have the layout of Emu2-Gen and no painter."""
    from emu2eval.engine.models import open_model
    from emu2eval.spec.changes import Changes

    assert open_model(f"emu2-nano-early-{number}", Changes()).adapter.lacks() == []
