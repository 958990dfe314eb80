"""Multiple choice and yes/no from official files to scores: what is particular about each task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from emu2eval import evaluate
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.data.load import load_split
from emu2eval.engine.evaluation import Result
from emu2eval.errors import ConfigError
from emu2eval.spec.task import load_task
from emu2eval.types import ChoiceOutput, Request, Response

Roots = Callable[[str], Path]


class Says(Adapter):
    """Says one thing, or ranks one content highest."""

    limits = Limits(frozenset({"text", "choice"}), batch=8)

    def __init__(self, word: str = ""):
        self.word = word

    def answer(self, requests: list[Request]) -> list[Response]:  # type: ignore[override]
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        if isinstance(request.output, ChoiceOutput):
            return Response(log_probs=tuple(-float(c != self.word) for c in request.output.choices))
        return Response(text=self.word)


@pytest.fixture
def run(roots: Roots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    def run(task: str, word: str, **options: Any) -> Result:
        monkeypatch.setenv("EMU2EVAL_DATA", str(roots(task)))
        path = tmp_path / "says.yaml"
        spec = {"name": "says", "adapter": f"{__name__}:Says", "settings": {"word": word}}
        path.write_text(yaml.safe_dump(spec))
        (result,) = evaluate(task, str(path), **options)
        return result

    return run


def scores(result: Result) -> dict[str, dict[str, Any]]:
    lines = (result.folder / "scores.jsonl").read_text().splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def numbers(result: Result, group: str | None = None) -> dict[str, float | None]:
    return {row.label: row.value for row in result.rows if row.group == group}


def test_pope_without_a_no_is_all_yes(run: Callable[..., Result]) -> None:
    assert numbers(run("pope", "I see a square")) == {
        "f1/official": pytest.approx(200 / 3),
        "accuracy/official": 50.0,
        "precision/official": 50.0,
        "recall/official": 100.0,
        "yes_ratio/official": 100.0,
    }


def test_a_precision_without_a_yes_is_none_and_the_row_says_why(run: Callable[..., Result]) -> None:
    (row,) = (r for r in run("pope", "No.").rows if (r.metric, r.group) == ("precision", None))
    assert row.value is None
    (said,) = row.notes
    assert said.startswith("precision is undefined: ") and "random" in said


def test_popes_files_are_groups_and_the_stricter_rule_a_variant(
    run: Callable[..., Result],
) -> None:
    result = run("pope", "No.", changes=["task.score.options.rule=lmms_eval"])
    assert numbers(result, "category: popular")["accuracy/lmms_eval"] == 0
    assert numbers(run("pope", "No."))["accuracy/official"] == 50


@pytest.mark.parametrize(
    ("name", "why"),
    [("pope", "POPE has no training split"), ("seed_bench", "SEED-Bench has no training split")],
)
@pytest.mark.parametrize("shots", ["4", "0*"])
def test_shots_without_a_pool_are_refused(
    run: Callable[..., Result], name: str, why: str, shots: str
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        run(name, "yes", shots=["0", shots])
    assert "task.demonstrations.split=SPLIT" in str(caught.value.hint)


def test_whoever_insists_draws_from_the_test_data_without_the_querys_image(
    run: Callable[..., Result],
) -> None:
    result = run("pope", "yes", shots=[4], changes=["task.demonstrations.split=all"])
    for line in (result.folder / "responses.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert len(row["examples"]) == 4
        assert row["shown"][-1] not in row["shown"][:-1]


def test_seed_bench_ranks_contents_by_the_authors_method(run: Callable[..., Result]) -> None:
    result = run("seed_bench", "green", protocol="ranking")
    # One question does not offer green: its four contents tie, and share the credit.
    assert numbers(result)["accuracy/ranked_contents"] == pytest.approx(100 * 2.25 / 6)
    found = scores(result)
    # Images 1 and 6 are green; the letter of the content is what is compared.
    assert {name for name, row in found.items() if row["value"] == 1} == {"101661", "v6"}
    assert found["101661"]["prediction"] == "B"


def test_seed_bench_ranks_by_sum_or_by_mean_by_name() -> None:
    built = {
        name: load_task("seed_bench", protocol=name).spec.output.build(("a", "b"))
        for name in ("ranking", "ranking-mean")
    }
    assert built["ranking"] == ChoiceOutput(("a", "b"), per_token=False)
    assert built["ranking-mean"] == ChoiceOutput(("a", "b"), per_token=True)


def test_seed_bench_is_an_average_over_questions_with_dimensions_as_groups(
    run: Callable[..., Result],
) -> None:
    result = run("seed_bench", "B")
    groups = {row.group: row.n for row in result.rows if row.group}
    assert groups == {
        "data_type: image": 3,
        "data_type: video": 3,
        "dimension: Instance Attributes": 3,
        "dimension: Action Recognition": 1,
        "dimension: Action Prediction": 1,
        "dimension: Procedure Understanding": 1,
    }
    assert numbers(result)["accuracy/exact"] == 100.0  # every answer is B there
    assert numbers(run("seed_bench", "B."))["accuracy/exact"] == 0.0
    loose = ["task.score.options.rule=first_letter"]
    assert numbers(run("seed_bench", "B.", changes=loose))["accuracy/first_letter"] == 100.0


def test_mmbench_is_right_only_in_every_rotation(run: Callable[..., Result]) -> None:
    always_a = numbers(run("mmbench", "A"))
    assert always_a == {
        "circular_accuracy/vlmevalkit-2026-06": 0.0,
        "accuracy/vlmevalkit-2026-06": 0.0,
    }
    # The content is read too, and it turns with the options.
    by_content = numbers(run("mmbench", "green"))
    assert by_content["circular_accuracy/vlmevalkit-2026-06"] == pytest.approx(100 * 2 / 6)
    assert by_content["accuracy/vlmevalkit-2026-06"] == pytest.approx(100 * 2 / 6)


def test_mmbench_never_shows_a_question_to_itself(run: Callable[..., Result]) -> None:
    result = run("mmbench", "A", shots=[4])
    for line in (result.folder / "responses.jsonl").read_text().splitlines():
        row = json.loads(line)
        shown = [name.split("-") for name in row["examples"]]
        assert all(rotation == "0" for _, rotation in shown)
        assert row["id"].split("-")[0] not in {number for number, _ in shown}


def test_mmmu_guesses_alike_whatever_else_is_asked(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    whole = run("mmmu", "no idea", out=tmp_path / "whole")
    part = run("mmmu", "no idea", out=tmp_path / "part", limit=7)
    assert scores(part).items() <= scores(whole).items()
    guessed = [row for row in whole.rows if row.label == "guessed/mmmu" and row.group is None]
    assert guessed[0].value == pytest.approx(100 * 20 / 30)  # ten of the thirty are open questions


def test_mmmu_demonstrations_come_from_dev(run: Callable[..., Result]) -> None:
    result = run("mmmu", "A", shots=[4])
    for line in (result.folder / "responses.jsonl").read_text().splitlines():
        assert all(name.startswith("dev_") for name in json.loads(line)["examples"])


def test_hidden_answers_are_asked_and_called_hidden(run: Callable[..., Result]) -> None:
    for task in ("mmmu", "mmbench"):
        row = run(task, "A", split="test").rows[0]
        assert (row.value, row.n) == (None, 0)
        assert row.hidden and not row.unscored


def test_scienceqa_prompts_leave_out_the_line_of_an_empty_hint(
    roots: Roots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMU2EVAL_DATA", str(roots("scienceqa_img")))
    task = load_task("scienceqa_img")
    samples = load_split(task, "test")
    assert {bool(sample.fields["hint"]) for sample in samples} == {True, False}
    assert set(task.protocol.cases.ask) == {""}  # type: ignore[union-attr]
