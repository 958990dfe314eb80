"""A metric that is a plain function: how it is read and called, and what becomes of its mistakes."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emu2eval import ConfigError, Image, Response, Sample, evaluate, metric, registry, score_again
from emu2eval.report.answer import show_answer
from emu2eval.report.page import write
from emu2eval.runs.record import read_record
from emu2eval.runs.scores import read_scores
from emu2eval.scorers.function import factory
from emu2eval.scorers.source import source_digest
from emu2eval.testing import ScriptedModel, small_task
from emu2eval.trust import named_by

from ..conftest import MakeTask


def value(function: Any, text: str = "red", *references: str, **options: Any) -> Any:
    sample = Sample("s", {"kind": "odd"}, references=references or ("red", "green"))
    return factory(function)(**options).score(sample, Response(text=text))


@pytest.mark.parametrize(
    ("given", "expected"), [(True, 1.0), (0.25, 0.25), (1, 1.0), (np.float32(0.5), 0.5)]
)
def test_numbers_and_bools_are_scores(given: Any, expected: float) -> None:
    assert value(lambda prediction, references: given).value == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (math.nan, "it returned nan"),
        (1.5, "outside its range of 0 to 1"),
        (-1, "outside its range"),
        (None, "NoneType, not a number"),
        ("1", "str, not a number"),
        ({"f1": 1.0}, "dict, not a number"),
    ],
)
def test_what_is_no_score_is_unscored_with_its_reason(given: Any, why: str) -> None:
    score = value(lambda prediction, references: given)
    assert score.value is None
    assert why in score.why


def test_what_it_is_given() -> None:
    seen: list[Any] = []

    def third(a, b, c):  # type: ignore[no-untyped-def]
        seen.append((a, b, c.id))
        return 1

    def named(prediction, references, *, sample, mark: str = "!"):  # type: ignore[no-untyped-def]
        seen.append((prediction, references, sample.fields["kind"] + mark))
        return 1

    value(third)
    value(named, mark="?")
    assert seen == [("red", ["red", "green"], "s"), ("red", ["red", "green"], "odd?")]
    assert value(named, "red", *()).value == 1


def test_the_likeliest_choice_and_the_drawn_image_are_predictions() -> None:
    seen: list[Any] = []

    def keep(prediction, references):  # type: ignore[no-untyped-def]
        seen.append(prediction)
        return 0

    image = Image(data=b"drawn")
    sample = Sample("s", references=("no",), choices=("yes", "no"))
    for response in (Response(log_probs=(-2.0, -1.0)), Response(images=(image,))):
        factory(keep)().score(sample, response)
    assert seen == ["no", image]


def test_options_are_checked_as_any_scorers() -> None:
    def close(prediction: str, references: list[str], within: int = 0) -> bool:
        return abs(int(prediction) - int(references[0])) <= within

    build = registry.bound("scorer", "close", factory(close), {"within": 2})
    assert build().score(Sample("s", references=("5",)), Response(text="7")).value == 1
    for options in ({"within": "two"}, {"without": 1}):
        with pytest.raises(ConfigError):
            registry.bound("scorer", "close", factory(close), options)


def test_a_function_that_cannot_be_a_metric_is_told() -> None:
    def alone(prediction):  # type: ignore[no-untyped-def]
        return 1

    def four(a, b, c, d):  # type: ignore[no-untyped-def]
        return 1

    with pytest.raises(ConfigError, match=r"accept \(prediction, references\)"):
        factory(alone)
    with pytest.raises(ConfigError, match="accept"):
        factory(metric()(four))


def test_facts_decide_scale_direction_and_range() -> None:
    @metric(name="distance", range=(0, 16), higher_is_better=False, digits=1)
    def apart(prediction, references):  # type: ignore[no-untyped-def]
        return len(prediction)

    scorer = factory(apart)()
    (summary,) = scorer.summaries()
    assert (summary.metric, summary.higher_is_better, summary.digits) == ("distance", False, 1)
    for number, text in enumerate(("abc", "abcde")):
        sample = Sample(str(number), references=("x",))
        summary.accumulator.add(sample, scorer.score(sample, Response(text=text)))
    assert summary.accumulator.value() == 4.0
    assert value(apart, "a" * 17).value is None


def test_without_references_a_sample_is_hidden_unless_none_are_needed() -> None:
    def words(prediction, references):  # type: ignore[no-untyped-def]
        return len(prediction.split()) / 10

    unanswered = Sample("s")
    assert factory(words)().score(unanswered, Response(text="a b")).hidden
    free = factory(metric(references=False)(words))()
    assert free.score(unanswered, Response(text="a b")).value == 0.2


def test_a_run_counts_what_the_function_fails_on(tmp_path: Path, make_task: MakeTask) -> None:
    def picky(prediction, references):  # type: ignore[no-untyped-def]
        if "green" in references:
            raise KeyError("no green here")
        return prediction in references

    task = make_task()
    (result,) = evaluate(task, ScriptedModel("red"), scorer=picky, out=tmp_path / "runs")
    row = result.rows[0]
    scores = list(read_scores(result.folder))
    failed = [score for score in scores if score.value is None]
    assert row.metric == "picky"
    assert (row.n, row.unscored) == (len(scores) - len(failed), len(failed))
    assert failed
    assert "KeyError: 'no green here' (test_function.py:" in str(failed[0].why)
    (note,) = row.notes
    assert f"{len(failed)} answers" in note
    assert repr(failed[0].id) in note
    again = score_again(result.folder, scorer="exact_match").rows[0]
    assert (again.metric, again.unscored, again.notes) == ("exact_match", 0, ())


def test_a_corpus_metric_sees_all_answers_and_has_an_error(tmp_path: Path) -> None:
    sizes = []

    def accuracy(predictions, references):  # type: ignore[no-untyped-def]
        sizes.append(len(predictions))
        right = sum(p in r for p, r in zip(predictions, references, strict=True))
        return right / len(predictions)

    task = small_task(tmp_path)
    mean, whole = (
        evaluate(task, ScriptedModel("red"), scorer=scorer, out=tmp_path / "runs")[0].rows[0]
        for scorer in ("exact_match", accuracy)
    )
    assert whole.value == pytest.approx(mean.value)
    assert whole.stderr == pytest.approx(mean.stderr, rel=0.25)  # 200 resamples
    assert max(sizes) == whole.n
    assert whole.n == mean.n


def test_an_edited_function_is_another_metric(tmp_path: Path) -> None:
    file = tmp_path / "metric.py"
    texts = (
        "LIMIT = 1\ndef helper(n):\n    return n >= LIMIT\ndef enough(prediction, references):\n"
        "    return helper(len(prediction))\ndef other():\n    return 0\n"
    )
    digests = []
    for edited in (
        texts,
        texts.replace("return 0", "return 1"),  # nothing that the metric uses
        texts.replace("LIMIT = 1", "LIMIT = 4"),
        texts.replace(">=", ">"),
    ):
        file.write_text(edited)
        built = registry.find("scorer", "metric.py:enough")()
        digests.append(built.variant)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_closures_of_other_values_differ() -> None:
    def made(limit: int) -> Any:
        return lambda prediction, references: len(prediction) > limit

    assert source_digest(made(1)) == source_digest(made(1)) != source_digest(made(2))


FILE = "def right(prediction, references):\n    return prediction in references\n"


def test_a_file_goes_by_its_path_beside_the_task_or_where_one_stands(
    tmp_path: Path, make_task: MakeTask
) -> None:
    task = make_task(score={"scorer": "right.py:right"})
    theirs = task.parent
    (theirs / "right.py").write_text(FILE)
    (result,) = evaluate(task, ScriptedModel("red"), out=tmp_path / "runs")
    assert result.rows[0].metric == "right"
    assert not [name for name in sys.modules if name == "right"]
    # A record brings no code, wherever it names it.
    with pytest.raises(ConfigError, match="names code"):
        score_again(result.folder)
    # All but scoring works without it.
    assert show_answer(result.folder, 0, None, 0) is not None
    assert write([result.folder], tmp_path / "page.html").promptless == ()
    named = score_again(result.folder, scorer=str(theirs / "right.py:right"))
    assert named.rows[0].value == result.rows[0].value
    kept = read_record(result.folder).task.spec["score"]["scorer"]
    assert kept == f"{theirs / 'right.py'}:right"


def test_a_file_from_elsewhere_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs.py").write_text("raise SystemExit('it ran')")
    monkeypatch.chdir(tmp_path / "mine")
    for name in ("../theirs.py:x", f"{tmp_path}/theirs.py:x"):
        with named_by(tmp_path / "mine"), pytest.raises(ConfigError, match="neither next to"):
            registry.find("scorer", name)
    with named_by(tmp_path / "mine", stored=True), pytest.raises(ConfigError, match="names code"):
        registry.find("scorer", f"{tmp_path}/theirs.py:x")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("right.py:righ", "did you mean 'right'"),
        ("left.py:right", "does not exist: left.py"),
        ("right.py", "right.py:NAME"),
    ],
)
def test_a_name_that_is_not_there(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "right.py").write_text(FILE)
    with pytest.raises(ConfigError) as caught:
        registry.find("scorer", name)
    assert says in str(caught.value)


def test_another_scorer_takes_none_of_the_options_of_the_first(tmp_path: Path) -> None:
    task = small_task(tmp_path, score={"scorer": "exact_match", "options": {"normalise": True}})
    (result,) = evaluate(
        task, ScriptedModel("red"), scorer=lambda prediction, references: 1, out=tmp_path / "runs"
    )
    assert (result.rows[0].metric, result.rows[0].value) == ("metric", 100.0)
