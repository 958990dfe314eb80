"""What demonstrations bring: a model that reads them, one that reads their format alone, one that copies."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

from emu2eval import Adapter, Limits, Request, Response, evaluate
from emu2eval.cli import app
from emu2eval.compare.diagnose import Contribution, contributions, copying
from emu2eval.doctor.reference import keep
from emu2eval.errors import CompareError, StoreError
from emu2eval.media.images import load
from emu2eval.runs.answers import from_line, to_line
from emu2eval.runs.scored import ScoredRun, read_run
from emu2eval.types import Image, Part

ABLATIONS = ["none", "labels", "images", "blank", "order"]


class Pupil(Adapter):
    """Looks at colours: `learns` says the reply shown with the query's colour; else the commonest reply."""

    limits = Limits(frozenset({"text"}))

    def __init__(self, learns: bool = True):
        self.learns = learns

    def answer(self, requests: Sequence[Request]) -> Sequence[Response]:
        return [Response(text=self._said(request)) for request in requests]

    def _said(self, request: Request) -> str:
        turns = request.prompt.turns
        if not turns:
            return "?"
        replies = [str(turn.reply[0]) for turn in turns]
        if self.learns:
            wanted = _colour(request.prompt.query)
            for turn, reply in zip(turns, replies, strict=True):
                if _colour(turn.ask) == wanted:
                    return reply
            return "none of them"
        return Counter(sorted(replies)).most_common(1)[0][0]


def _colour(parts: Sequence[Part]) -> object:
    (image,) = (part for part in parts if isinstance(part, Image))
    return load(image).convert("RGB").getpixel((8, 8))


@pytest.fixture
def runs(make_task: Any, tmp_path: Path) -> Callable[..., list[ScoredRun]]:
    def make(learns: bool, **settings: Any) -> list[ScoredRun]:
        model = tmp_path / f"pupil-{learns}.yaml"
        spec = {
            "name": f"pupil-{learns}",
            "adapter": f"{__name__}:Pupil",
            "settings": {"learns": learns},
        }
        model.write_text(yaml.safe_dump(spec))
        task = make_task(60, 40, demonstrations={"split": "train", "chooser": "balanced"})
        results = evaluate(str(task), str(model), shots=[0, 5], ablate=ABLATIONS, **settings)
        return [read_run(result.folder) for result in results]

    return make


def by_name(found: Sequence[Contribution]) -> dict[str, Contribution]:
    return {part.of.partition(" (")[0]: part for part in found}


def test_a_model_that_learns_needs_images_and_labels(runs: Any) -> None:
    made = by_name(contributions(runs(True)))
    assert made["all"].difference == 100 and made["all"].share is None
    for name in ("correct labels", "matching images"):
        part = made[name]
        # A fifth of dealt replies stays where it was.
        assert 60 < part.difference < 95 and part.low > 40 and part.p < 0.001  # type: ignore[operator]
        assert part.share == pytest.approx(part.difference)
        assert part.share_low < part.share < part.share_high  # type: ignore[operator]
    assert made["having images"].difference == 100
    assert made["the order"].difference == 0 and made["the order"].share_low is None
    left = made["the format"]
    assert left.difference + made["correct labels"].difference == pytest.approx(100)  # type: ignore[operator]
    assert left.share + made["correct labels"].share == pytest.approx(100)  # type: ignore[operator]


def test_a_model_that_reads_the_format_alone_needs_neither(runs: Any) -> None:
    made = by_name(contributions(runs(False)))
    assert made["all"].difference > 10  # type: ignore[operator]
    for name in ("correct labels", "matching images", "having images", "the order"):
        assert made[name].difference == 0
    assert made["the format"].share == 100


def test_copies_and_what_they_would_be_by_chance(runs: Any) -> None:
    read = runs(True)
    found = {run.record.setting: copying(run) for run in read}
    assert found["0"] is None
    # Balanced demonstrations of five colours show each: whatever is a colour was shown to everybody.
    assert found["5"].copied == found["5"].known == found["5"].chance == 100
    assert found["5"].low < 97
    assert found["5 (blank)"].copied == found["5 (blank)"].chance == 0


def test_the_chance_of_copies_is_that_of_other_demonstrations(
    make_task: Any, make_model: Any
) -> None:
    task = str(make_task(40, 30))
    (result,) = evaluate(task, "nearest", shots=[1])
    made = copying(read_run(result.folder))
    assert made is not None
    assert made.copied == 100  # with one demonstration there is nothing else to say
    assert made.chance == pytest.approx(20, abs=8)  # five colours
    assert made.known == pytest.approx(20, abs=15)


def test_by_command(runs: Any) -> None:
    runs(True)
    run = CliRunner()
    shown = run.invoke(app, ["diagnose"]).output
    assert "correct labels" in shown and "copied %" in shown
    assert "correct answer among the examples" in " ".join(shown.split())
    read = json.loads(run.invoke(app, ["diagnose", "--format", "json"]).output)
    assert len(read["parts"]) == 6 and len(read["copying"]) == 5
    table = run.invoke(app, ["diagnose", "--format", "csv"]).output
    assert {row["of"] for row in csv.DictReader(io.StringIO(table))} >= {"the order"}
    assert run.invoke(app, ["diagnose", "--format", "markdown"]).output.count("| task |") == 2
    assert "toprule" in run.invoke(app, ["diagnose", "--format", "latex"]).output
    nothing = run.invoke(app, ["diagnose", "squares_0"])
    assert "has demonstrations" in str(nothing.exception)


def test_runs_of_one_name_are_told_apart_as_in_a_table(runs: Any) -> None:
    read = runs(True)
    made = contributions([*read, *runs(True, changes=["task.output.max_new_tokens=4"])])
    assert len(made) == 12
    assert {part.model for part in made} == {
        "pupil-True (max_new_tokens=4)",
        f"pupil-True (max_new_tokens={read[0].record.identity.task.output['max_new_tokens']})",
    }
    with pytest.raises(CompareError, match="two runs of pupil-True"):
        contributions([*read, *read])


def test_each_seed_is_told_apart_and_one_zero_serves_all(runs: Any) -> None:
    first, second = runs(True), runs(True, seed=1)
    made = contributions([*first, *second])
    assert {part.seed for part in made} == {0, 1} and len(made) == 12
    # Nothing is drawn for the run without demonstrations, so it can stand for every seed.
    alone = contributions([*first, *(run for run in second if run.record.shots.count)])
    assert [part.difference for part in alone] == [part.difference for part in made]


class Counting(Pupil):
    """As a pupil, with room for one demonstration."""

    limits = Limits(frozenset({"text"}), positions=200)

    def positions(self, request: Request) -> int:
        return 100 * (1 + len(request.prompt.turns))


def test_demonstrations_that_were_dropped_are_not_counted_as_shown(
    make_task: Any, tmp_path: Path
) -> None:
    """Of eight demonstrations that were drawn, --fit left the nearest one."""
    model = tmp_path / "small.yaml"
    model.write_text(yaml.safe_dump({"name": "small", "adapter": f"{__name__}:Counting"}))
    task = str(make_task(60, 40))
    (whole,) = evaluate(task, "nearest", shots=8)
    (result,) = evaluate(task, str(model), shots=8, fit=True)
    assert result.rows[0].shortened == 60
    every, one = copying(read_run(whole.folder)), copying(read_run(result.folder))
    assert every is not None and one is not None
    # With five colours the query's is among eight random ones in 83 % of cases, and is one's own in 20 %.
    assert every.known is not None and every.known > 60
    assert one.known == pytest.approx(20, abs=12)
    # A model that looks at that one alone says what it shows where the colours agree, else that none fits.
    assert one.copied == one.known


def test_a_reference_that_does_not_say_what_was_dropped_is_refused(
    make_task: Any, tmp_path: Path
) -> None:
    model = tmp_path / "small.yaml"
    model.write_text(yaml.safe_dump({"name": "small", "adapter": f"{__name__}:Counting"}))
    (result,) = evaluate(str(make_task(20, 40)), str(model), shots=3, fit=True)
    kept = keep(result.folder, tmp_path / "references")
    with pytest.raises(StoreError, match="does not record which demonstrations were dropped"):
        copying(read_run(kept))
    (plain,) = evaluate(str(make_task(20, 40)), "nearest", shots=3)
    found = copying(read_run(keep(plain.folder, tmp_path / "references")))
    stored = copying(read_run(plain.folder))
    assert found is not None and stored is not None
    assert (found.copied, found.known, found.chance) == (stored.copied, stored.known, stored.chance)


def test_an_answer_to_other_demonstrations_is_refused(make_task: Any) -> None:
    (result,) = evaluate(str(make_task(6, 20)), "nearest", shots=2)
    path = result.folder / "responses.jsonl"
    answers = [from_line(line) for line in path.read_bytes().splitlines(keepends=True)]
    answers[0] = msgspec.structs.replace(answers[0], examples=("q1000", "q1001"))
    path.write_bytes(b"".join(map(to_line, answers)))
    with pytest.raises(StoreError, match="different demonstrations than are drawn now"):
        copying(read_run(result.folder))
