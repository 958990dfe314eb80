"""Stored runs side by side: matched, refused where they differ in more than the model, and shown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from emu2eval import evaluate
from emu2eval.cli import app
from emu2eval.compare.comparable import Measure
from emu2eval.compare.comparison import compare, compare_all, matched
from emu2eval.compare.pairing import compare_series, partners
from emu2eval.doctor.reference import keep
from emu2eval.errors import CompareError, StoreError
from emu2eval.runs.record import read_record, write_record
from emu2eval.runs.scored import ScoredRun, read_run
from emu2eval.scorers.base import Scorer, Summary, text_of
from emu2eval.statistics.bootstrap import BootstrapOfSums
from emu2eval.statistics.estimates import Accumulator
from emu2eval.types import Response, Row, Sample, Score, Shots

Run = Callable[..., Path]


@pytest.fixture
def run(make_task: Any, make_model: Any, tmp_path: Path) -> Run:
    """Runs a model that answers by rules of its own; returns the folder."""

    def make(
        name: str,
        default: str = "red",
        shots: str = "2",
        task: dict[str, Any] | None = None,
        changes: tuple[str, ...] = (),
        **settings: Any,
    ) -> Path:
        path = make_task(40, images=20, **(task or {}))
        model = make_model(name, default=default)
        (result,) = evaluate(
            str(path), str(model), shots=[shots], out=tmp_path / "runs", changes=changes, **settings
        )
        return result.folder

    return make


def printed(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_wins_losses_and_flips(run: Run) -> None:
    red, blue = read_run(run("red")), read_run(run("blue", "blue"))
    made = compare(red, blue)
    whole = made.differences[0]
    # Of 20 images with 2 questions each, every fifth is red and every fifth is blue.
    assert (whole.wins, whole.losses, whole.ties) == (8, 8, 24)
    assert (whole.n, whole.clusters, whole.difference) == (40, 20, 0)
    assert whole.first_value == whole.second_value == 20
    assert whole.p == whole.mcnemar == 1
    assert {(f.better, f.second_prediction) for f in made.flips} == {
        (True, "blue"),
        (False, "blue"),
    }
    assert len({f.id for f in made.flips}) == 16
    groups = [d for d in made.differences if d.group]
    assert [d.group for d in groups] == ["kind: even", "kind: odd"]
    assert sum(d.n for d in groups) == 40
    none = read_run(run("none", "nothing"))
    worse = compare(red, none).differences[0]
    assert worse.difference == -20 and worse.low is not None and worse.high is not None
    assert worse.low < -20 < worse.high
    # Four images differ, all the same way: two of the sixteen ways to flip their signs.
    assert worse.p == pytest.approx(2 / 16)
    assert worse.mcnemar == pytest.approx(2 / 2**8)
    assert compare(none, red).differences[0].difference == 20


def test_limits_and_trials_are_matched(run: Run) -> None:
    whole, part = read_run(run("red")), read_run(run("blue", "blue", limit=10))
    made = compare(whole, part).differences[0]
    assert (made.n, made.unmatched) == (10, 30)
    zero = read_run(run("red", shots="0"))
    three = read_run(run("blue", "blue", trials=3))
    pairs, alone = matched(zero, three)
    assert (len(pairs), alone) == (120, 0)
    assert all(a.id == b.id and a.trial == 0 for a, b in pairs)
    assert compare(zero, three).differences[0].n == 120


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"task": {"protocols": {"plain": {"ask": "{image}Say: {question}"}}}}, "templates"),
        ({"task": {"score": {"scorer": "exact_match", "clean": []}}}, "scoring settings"),
        ({"changes": ("task.score.options.normalise=true",)}, "metrics differ"),
        ({"task": {"output": {"max_new_tokens": 3}}}, "max_new_tokens 10 and 3"),
        ({"task": {"name": "circles"}}, "tasks differ (squares and circles)"),
        ({"task": {"version": 2}}, "task versions"),
    ],
)
def test_what_differs_in_more_than_the_model_is_refused(
    run: Run, other: dict[str, Any], says: str
) -> None:
    first = read_run(run("red"))
    second = read_run(run("blue", "blue", **other))
    with pytest.raises(CompareError) as caught:
        compare(first, second)
    assert says in caught.value.what
    forced = compare(first, second, force=True).differences[0]
    assert forced.forced and any(note.startswith("forced: ") for note in forced.notes)


def test_other_data_is_refused(run: Run, make_task: Any) -> None:
    first = run("red")
    second = run("blue", "blue")
    record = read_record(second)
    data = msgspec.structs.replace(record.identity.data, queries="0" * 64)
    identity = msgspec.structs.replace(record.identity, data=data)
    write_record(second, msgspec.structs.replace(record, identity=identity))
    with pytest.raises(CompareError, match="the data of their queries differs"):
        compare(read_run(first), read_run(second))
    text = printed("compare", str(first), str(second), "--force", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["forced"] == "True" and "queries differs" in row["notes"]


def test_seeds_and_choosers_are_noted(run: Run) -> None:
    first, second = read_run(run("red")), read_run(run("red", seed=1))
    (note,) = compare(first, second).differences[0].notes
    assert note == "demonstrations drawn with seeds 0 and 1"


def test_references_compare_as_their_runs_do(run: Run, tmp_path: Path) -> None:
    folders = [run("red"), run("blue", "blue")]
    kept = [keep(folder, tmp_path / "references") for folder in folders]
    made = compare(*(read_run(folder) for folder in folders))
    again = compare(*(read_run(folder) for folder in kept))
    assert again == made
    # They need no data: clusters and groups are in them.
    for file in (tmp_path / "squares").glob("*.jsonl"):
        file.unlink()
    assert compare(*(read_run(folder) for folder in kept)) == made


def test_several_tasks_are_matched_and_corrected(run: Run, tmp_path: Path) -> None:
    folders = {
        (name, shots): run(name, answer, shots)
        for name, answer in (("red", "red"), ("none", "nothing"))
        for shots in ("0", "2")
    }
    groups = [[read_run(folders[name, k]) for k in ("0", "2")] for name in ("red", "none")]
    pairs, alone = partners([*groups], ["red", "none"])
    assert [(a.label, b.label) for a, b in pairs] == [("red 0", "none 0"), ("red 2", "none 2")]
    assert alone == []
    heads = [d for d in compare_all(pairs).differences if d.group is None]
    assert [d.holm for d in heads] == [pytest.approx(2 * (d.p or 0)) for d in heads]
    _, alone = partners([groups[0], groups[1][:1]], ["red", "none"])
    assert alone == [folders["red", "2"].name]
    with pytest.raises(CompareError, match="several runs of squares at 0 shots"):
        partners([[*groups[0], groups[0][0]], groups[1]], ["all", "none"])
    # Several models in a folder: each has its namesake for a partner.
    both = [groups[0][0], groups[1][0]]
    pairs, alone = partners([both, both[::-1]], ["before", "after"])
    assert [(a.label, b.label) for a, b in pairs] == [("red 0", "red 0"), ("none 0", "none 0")]
    assert alone == []
    with pytest.raises(CompareError, match="in common"):
        other = [replace_task(run) for run in groups[1]]
        partners([groups[0], other], ["red", "none"])


def replace_task(run: ScoredRun) -> ScoredRun:
    task = msgspec.structs.replace(run.record.task, name="circles")
    return replace(run, record=msgspec.structs.replace(run.record, task=task))


def test_groups_of_several_seeds_are_matched_by_seed(run: Run) -> None:
    def of(name: str, *seeds: int) -> list[ScoredRun]:
        return [read_run(run(name, name, seed=seed)) for seed in seeds]

    pairs, alone = partners([of("red", 0, 1), of("blue", 1, 0)], ["red", "blue"])
    assert [(a.record.seed, b.record.seed) for a, b in pairs] == [(0, 0), (1, 1)]
    assert alone == []
    # Where a group has one seed, another one is no other question.
    zero = read_run(run("red", shots="0"))
    pairs, _ = partners([[zero, *of("red", 0)], of("blue", 1)], ["red", "blue"])
    assert [(a.label, b.label) for a, b in pairs] == [("red 2", "blue 2")]


def test_checkpoints_over_steps(run: Run, tmp_path: Path) -> None:
    names = [("step-1", "nothing"), ("step-2", "red"), ("step-3", "red")]
    folders = [run(name, answer) for name, answer in names]
    (track,) = compare_series([[read_run(f)] for f in folders], [name for name, _ in names])
    changes = [change.difference for _, change in track if change is not None]
    assert changes == [20, 0] and track[0][1] is None
    paths = [str(folder) for folder in folders]
    file = tmp_path / "steps.svg"
    rows = json.loads(
        printed("compare", "--series", *paths, "--format", "json", "--file", str(file))
    )
    assert [row["checkpoint"] for row in rows] == [name for name, _ in names]
    assert [row["change"] for row in rows] == [None, 20, 0]
    assert [row["value"] for row in rows] == [0, 20, 20]
    drawn = file.read_text()
    assert all(name in drawn for name, _ in names) and "2 shots" in drawn
    assert "+20.00" in printed("compare", "--series", *paths)
    for form in ("markdown", "csv", "latex"):
        assert "step-3" in printed("compare", "--series", *paths, "--format", form)


def test_by_command(run: Run) -> None:
    red, blue = str(run("red")), str(run("blue", "blue"))
    shown = printed("compare", red, blue, "--flips", "3")
    assert "3 of 16 samples that differ" in shown and "'blue'" in shown and "wins" in shown
    read = json.loads(printed("compare", red, blue, "--flips", "2", "--groups", "--format", "json"))
    assert [len(read["differences"]), len(read["flips"])] == [3, 2]
    assert read["differences"][0]["wins"] == 8
    table = printed("compare", red, blue, "--format", "markdown", "--flips", "1")
    assert table.count("| task |") == 3 and "| +0.00 |" in table and "**+0.00**" in table
    assert r"B $-$ A" in printed("compare", red, blue, "--format", "latex")
    flips = list(
        csv.DictReader(io.StringIO(printed("compare", red, blue, "--flips", "4", "-f", "csv")))
    )
    assert [flip["first_prediction"] for flip in flips] == ["red"] * 4
    with pytest.raises(CompareError, match="at least two runs"):
        printed("compare", red)


def test_runs_without_scores(run: Run) -> None:
    folder = run("red")
    (folder / "scores.jsonl").unlink()
    with pytest.raises(StoreError, match="no scores") as caught:
        read_run(folder)
    assert caught.value.hint == f"emu2eval score {folder}"
    (folder / "scores.jsonl").write_text("{")
    with pytest.raises(StoreError, match="cannot read"):
        read_run(folder)


def test_a_report_without_the_metric_is_told(run: Run) -> None:
    read = read_run(run("red"))
    other = replace(read, rows=tuple(msgspec.structs.replace(row, metric="x") for row in read.rows))
    with pytest.raises(CompareError, match="report has no row for exact_match") as caught:
        compare_all([(other, other)])
    assert caught.value.hint is not None and str(read.folder) in caught.value.hint


def test_takes_are_matched(run: Run) -> None:
    first = read_run(run("red"))

    def with_takes(count: int) -> ScoredRun:
        scores = {
            (name, trial, take): msgspec.structs.replace(score, take=take)
            for (name, trial, _), score in first.scores.items()
            for take in range(count)
        }
        return replace(first, scores=scores)

    pairs, alone = matched(with_takes(3), with_takes(3))
    assert (len(pairs), alone) == (120, 0)
    assert all(a.key == b.key for a, b in pairs)
    pairs, alone = matched(first, with_takes(3))
    assert (len(pairs), alone) == (120, 0) and {b.take for _, b in pairs} == {0, 1, 2}
    assert matched(with_takes(2), with_takes(3))[1] == 40


def measure(**changes: object) -> Measure:
    row = Row(
        run="r", task="t", model="m", shots=Shots(0), protocol="plain", split="test", metric="right",
        value=1.0, stderr=None, n=1, unscored=0, covered=1, queries=1,
    )  # fmt: skip
    return Measure.of(msgspec.structs.replace(row, **changes))


def test_what_a_number_is_of() -> None:
    for name, other in {
        "task": "u", "version": 2, "split": "val", "protocol": "other", "imported": "lm-eval",
        "metric": "wrong", "variant": "mine", "judge": "gpt-4", "encoder": "aaaaaaaa",
    }.items():  # fmt: skip
        assert measure(**{name: other}) != measure()
    assert measure(model="n", shots=Shots(4), seed=1, value=2.0) == measure()


def test_an_encoder_that_differs_is_refused(run: Run) -> None:
    first, second = read_run(run("red")), read_run(run("blue", "blue"))
    rows = tuple(msgspec.structs.replace(row, encoder="aaaaaaaa") for row in second.rows)
    with pytest.raises(CompareError, match=r"encoders of exact_match differ \(None and aaaaaaaa\)"):
        compare(first, replace(second, rows=rows))


def test_shortened_prompts_are_noted(run: Run) -> None:
    first, second = read_run(run("red")), read_run(run("blue", "blue"))
    rows = tuple(msgspec.structs.replace(row, shortened=7) for row in second.rows)
    (note,) = compare(first, replace(second, rows=rows)).differences[0].notes
    assert note == "7 prompts of blue 2 shortened to fit"


class SecondNumbers(Scorer):
    """A mean, a formula of sums, and a number that knows neither."""

    metric = "right"

    def score(self, sample: Sample, response: Response) -> Score:
        right = text_of(response) in sample.references
        return Score(
            float(right), text_of(response), {"right": right, "odd": float(len(sample.id))}
        )

    def summaries(self) -> tuple[Summary, ...]:
        def parts(sample: Sample, score: Score) -> tuple[float, float]:
            return float(score.value or 0), 1.0

        by_sums = BootstrapOfSums(parts, lambda s: 100 * s[:, 0] / s[:, 1])
        return (*super().summaries(), Summary("sums", by_sums), Summary("known", _Known()))


class _Known(Accumulator):
    """The share of right answers, for which it looks at the references themselves."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def add(self, sample: Sample, score: Score) -> None:
        self.seen.append(score.prediction in sample.references)

    def result(self) -> tuple[float | None, float | None]:
        return (100 * sum(self.seen) / len(self.seen) if self.seen else None), None


def test_numbers_without_a_formula_are_compared_too(run: Run) -> None:
    scorer = {"score": {"scorer": f"{__name__}:SecondNumbers"}}
    red, none = (read_run(run(name, name, task=scorer)) for name in ("red", "nothing"))
    mean, sums, known = (d for d in compare(red, none).differences if d.group is None)
    assert (mean.metric, sums.metric, known.metric) == ("right", "sums", "known")
    assert (mean.wins, mean.losses, mean.ties) == (0, 8, 32)
    for made in (sums, known):
        assert (made.wins, made.losses, made.ties) == (None, None, None)
        assert made.difference == pytest.approx(mean.difference)
        assert made.error == pytest.approx(mean.error, rel=0.2)
        assert made.p is not None and made.p < 0.1
    assert sums.first_value == known.first_value == 20


class Counts(SecondNumbers):
    """Its headline is no mean of values: no sample can be said to have flipped."""

    def summaries(self) -> tuple[Summary, ...]:
        return (Summary("distance", _Distance()),)


class _Distance(_Known):
    def result(self) -> tuple[float | None, float | None]:
        return (float(sum(self.seen) ** 2) if self.seen else None), None


def test_a_headline_that_is_no_mean_has_no_flips(run: Run) -> None:
    task = {"score": {"scorer": f"{__name__}:Counts"}}
    red, none = (read_run(run(name, name, task=task)) for name in ("red", "nothing"))
    made = compare(red, none)
    assert made.differences[0].difference == -64
    assert made.differences[0].wins is None and made.flips == ()


def test_answers_that_failed_are_left_out(run: Run) -> None:
    first = read_run(run("red"))
    scores = dict(first.scores)
    key = next(iter(scores))
    scores[key] = msgspec.structs.replace(scores[key], value=None, why="no answer")
    made = compare(first, replace(first, scores=scores)).differences[0]
    assert (made.n, made.unscored) == (39, 1)
