"""The runner: batches, halves, singles; nothing asked twice; the same answers whatever the batch."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage
from rich.console import Console

from emu2eval import evaluate
from emu2eval.adapters.base import Adapter, BatchRange, Limits
from emu2eval.engine.asking import checked
from emu2eval.engine.evaluation import plans
from emu2eval.engine.objects import InMemory
from emu2eval.engine.options import RunOptions
from emu2eval.engine.reopen import score_again
from emu2eval.engine.runner import Tally, execute
from emu2eval.errors import ConfigError, ModelError, PlanError
from emu2eval.media.images import from_pil
from emu2eval.report.progress import Bars
from emu2eval.runs.record import read_record
from emu2eval.runs.store import RunStore
from emu2eval.testing import ScriptedModel
from emu2eval.types import (
    IMPOSSIBLE,
    ChoiceOutput,
    Image,
    Mark,
    Output,
    Request,
    Response,
    TextOutput,
)
from emu2eval.watch import AskedAgain, ReplicasState, RunStart, Watcher


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def asked(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_running_again_asks_nothing(make_task: Any, make_model: Any, tmp_path: Path) -> None:
    task, log = str(make_task()), tmp_path / "log"
    model = str(make_model(log=str(log), default="red"))
    (first,) = evaluate(task, model, shots=[2], out=tmp_path / "runs")
    before = (first.folder / "scores.jsonl").read_bytes()
    count = len(asked(log))
    (again,) = evaluate(task, model, shots=[2], out=tmp_path / "runs")
    assert len(asked(log)) == count == 12
    assert again.tally.kept == 12
    assert (again.folder / "scores.jsonl").read_bytes() == before
    assert again.rows == first.rows


def test_scores_are_the_same_for_any_batch_and_limit(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task = str(make_task(queries=23))
    model = str(make_model(replies={"square 1": "red"}, default="blue"))
    found = []
    for batch in (1, 2, 7, 50):
        (result,) = evaluate(
            task, model, shots=[4], trials=2, batch=batch, out=tmp_path / f"b{batch}"
        )
        found.append((result.folder / "scores.jsonl").read_bytes())
    assert len(set(found)) == 1
    # Grown step by step, and in the end the same.
    for limit in (3, 10, None):
        (grown,) = evaluate(task, model, shots=[4], trials=2, limit=limit, out=tmp_path / "grown")
    assert (grown.folder / "scores.jsonl").read_bytes() == found[0]
    assert grown.tally.kept == 20


def test_a_smaller_limit_is_part_of_a_larger(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task, model = str(make_task(queries=30)), str(make_model())
    picked = []
    for limit in (5, 12):
        (result,) = evaluate(task, model, limit=limit, out=tmp_path / f"{limit}")
        picked.append({row["id"] for row in lines(result.folder, "scores.jsonl")})
    assert picked[0] < picked[1]
    assert (len(picked[0]), len(picked[1])) == (5, 12)


def test_a_limit_is_what_was_asked_for_whatever_is_stored(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task, model = str(make_task()), str(make_model())
    (alone,) = evaluate(task, model, shots=[1], limit=3, out=tmp_path / "alone")
    (whole,) = evaluate(task, model, shots=[1], trials=2, out=tmp_path / "runs")
    (part,) = evaluate(task, model, shots=[1], limit=3, out=tmp_path / "runs")
    assert part.folder == whole.folder
    assert (part.rows[0].n, part.rows[0].value) == (3, alone.rows[0].value)
    assert len(lines(part.folder, "scores.jsonl")) == 3
    # Nothing is lost by it: the whole comes back without a request.
    (again,) = evaluate(task, model, shots=[1], trials=2, out=tmp_path / "runs")
    assert (again.tally.asked, again.rows) == (0, whole.rows)


def test_equal_requests_are_made_once(make_task: Any, make_model: Any, tmp_path: Path) -> None:
    task, log = make_task(queries=6), tmp_path / "log"
    rows = [json.loads(line) for line in (task.parent / "test.jsonl").read_text().splitlines()]
    # The same question about the same image under six ids.
    same = [rows[0] | {"id": row["id"]} for row in rows]
    (task.parent / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in same))
    for batch in (1, 4):
        model = str(make_model(f"robot{batch}", log=str(log), batch=batch))
        (result,) = evaluate(str(task), model, limit=2, out=tmp_path / "runs")
        (result,) = evaluate(str(task), model, out=tmp_path / "runs")
        assert result.rows[0].n == 6
        assert result.tally.copied == 4
        assert len(asked(log)) == 1
        log.unlink()


def test_what_changes_the_question_changes_the_run(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task, log = make_task(), tmp_path / "log"
    model = str(make_model(log=str(log)))
    out = tmp_path / "runs"
    changes: list[Callable[[], Any]] = [
        lambda: evaluate(str(task), model, shots=[2], out=out),
        lambda: evaluate(str(task), model, shots=[2], seed=1, out=out),
        lambda: evaluate(str(task), model, shots=["0*"], out=out),
        lambda: evaluate(
            str(task), model, shots=[2], changes=["task.output.max_new_tokens=3"], out=out
        ),
        lambda: evaluate(str(task), model, shots=[2], changes=["model.settings.default=no"], out=out),
        lambda: evaluate(
            str(task), model, shots=[2], changes=["task.protocols.plain.ask={image}{question}"],
            out=out,
        ),
    ]  # fmt: skip
    for number, change in enumerate(changes, 1):
        change()
        assert len(asked(log)) == 12 * number
        assert len(set(asked(log))) == 12 * number
    # A batch size does not.
    evaluate(str(task), model, shots=[2], changes=["model.settings.batch=3"], out=out)
    assert len(asked(log)) == 12 * len(changes)


def test_an_image_that_changed_is_asked_about_again(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    from PIL import Image

    task, log = make_task(queries=5), tmp_path / "log"
    model = str(make_model(log=str(log)))
    evaluate(str(task), model, out=tmp_path / "runs")
    Image.new("RGB", (20, 20), "white").save(task.parent / "images" / "0002.png")
    (result,) = evaluate(str(task), model, out=tmp_path / "runs")
    assert (result.tally.asked, result.tally.kept) == (1, 4)
    assert len(set(asked(log))) == 6


def test_changed_data_is_another_run(make_task: Any, make_model: Any, tmp_path: Path) -> None:
    task, log = make_task(queries=5), tmp_path / "log"
    model = str(make_model(log=str(log)))
    (first,) = evaluate(str(task), model, out=tmp_path / "runs")
    path = task.parent / "test.jsonl"
    path.write_text(path.read_text().replace('"answer": "red"', '"answer": "crimson"'))
    (second,) = evaluate(str(task), model, out=tmp_path / "runs")
    assert first.folder != second.folder


def test_failed_requests_are_unscored_and_asked_again(
    make_task: Any, make_model: Any, tmp_path: Path
) -> None:
    task, out = str(make_task()), tmp_path / "runs"
    broken = str(make_model(default="red", fail=["square 3?", "square 7?"]))
    (result,) = evaluate(task, broken, out=out)
    whole = result.rows[0]
    assert (whole.n, whole.unscored, result.tally.failed) == (10, 2, 2)
    # Of 12 squares, those at 0, 5 and 10 are red; the two that failed count in neither n nor value.
    assert whole.value == pytest.approx(30)
    scores = {row["id"]: row for row in lines(result.folder, "scores.jsonl")}
    assert scores["q0003"]["value"] is None
    assert "script" in scores["q0003"]["why"]
    mended = str(make_model(default="red"))  # `fail` is no part of what decides an answer
    (result,) = evaluate(task, mended, out=out)
    assert (result.tally.asked, result.tally.kept) == (2, 10)
    assert (result.rows[0].n, result.rows[0].unscored) == (12, 0)


class Odd(Adapter):
    """Raises, runs out of memory, or answers wrongly, as told."""

    fault: str = ""
    most: int = 2
    calls: list[int]

    def __init__(self) -> None:
        self.limits = Limits(frozenset({"text", "choice"}), batch=8)
        type(self).calls = []

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        self.calls.append(len(requests))
        queries = ["".join(p for p in r.prompt.query if isinstance(p, str)) for r in requests]
        if self.fault == "memory" and len(requests) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        if self.fault == "one" and any("square 5?" in query for query in queries):
            raise ValueError("a shape that nobody expected")
        if self.fault == "all":
            raise ValueError("the weights are upside down")
        if self.fault == "short":
            return [Response(text="red")] * (len(requests) - 1)
        if self.fault == "kind":
            return [Response(log_probs=(-1.0,))] * len(requests)
        return [Response(text="red. more\nQuestion: and so on") for _ in requests]


def odd(fault: str) -> type[Odd]:
    Odd.fault = fault
    return Odd


def test_out_of_memory_halves_the_batch_for_good(make_task: Any, tmp_path: Path) -> None:
    (result,) = evaluate(str(make_task(queries=16)), odd("memory"), out=tmp_path / "runs")
    assert result.rows[0].n == 16
    # 8 fails, 4 fails, 2 and 2; from then on pairs at once, of the other 4 and of the next 8.
    assert Odd.calls == [8, 4, *[2] * 8]


class Tried(Odd):
    """Takes a batch of 4 as a matter of course, and up to 64 where they are tried."""

    def fit_batch(self) -> BatchRange:
        return BatchRange(4, 64)


@pytest.mark.parametrize(
    ("most", "calls"),
    [(99, [4, 8, 16, 32, 4]), (11, [4, 8, 16, 8, 8, 8, 8, 8, 8, 4]), (2, [4, *[2] * 32])],
)
def test_the_largest_batch_that_fits_is_found(
    make_task: Any, tmp_path: Path, most: int, calls: list[int]
) -> None:
    """No request is asked to no end but for the one batch that did not fit, and the size found is told."""
    heard: list[str] = []
    listener = Watcher()
    listener.note = heard.append  # type: ignore[method-assign]
    Tried.fault, Tried.most = "memory", most
    (result,) = evaluate(
        str(make_task(queries=64)), Tried, out=tmp_path, batch="auto", watcher=listener
    )
    assert (result.rows[0].n, Tried.calls) == (64, calls)
    largest = max(call for call in calls if call <= most)
    assert heard[-1:] == [f"squares, Tried, 0 shots: --batch auto used batches of up to {largest}"]
    assert result.end.again == ()
    with pytest.raises(ConfigError, match="an integer from 1 to 1,000,000, or auto"):
        evaluate(str(make_task()), Tried, out=tmp_path, batch="some")


def test_what_a_batch_that_did_not_fit_holds_is_freed_before_its_halves_are_asked(
    make_task: Any, tmp_path: Path
) -> None:
    held: list[weakref.ref[Any]] = []
    still: list[int] = []

    class Holding(Odd):
        def answer(self, requests: Sequence[Request]) -> list[Response]:
            still.append(sum(ref() is not None for ref in held))
            keys_and_values = set(range(9))
            held.append(weakref.ref(keys_and_values))
            return super().answer(requests)

    Holding.fault, Holding.most = "memory", 2
    (result,) = evaluate(str(make_task()), Holding, out=tmp_path)
    assert result.rows[0].unscored == 0 and len(held) > 6
    assert not any(still)


class Sampling(ScriptedModel):
    """Draws a colour by the request's key, as an adapter of one's own may."""

    samples = True

    def __init__(self) -> None:
        super().__init__(lambda request: "red" if int(request.key[:8], 16) % 2 else "green")


def test_trials_of_a_model_that_samples_repeat_its_answers(make_task: Any, tmp_path: Path) -> None:
    """Without demonstrations, too; the draws of one question are one cluster of the error."""
    task = str(make_task(queries=40))
    (result,) = evaluate(task, Sampling(), trials=6, out=tmp_path)
    row = result.rows[0]
    assert (row.n, row.trials, result.tally.asked, result.tally.copied) == (240, 6, 240, 0)
    scores = lines(result.folder, "scores.jsonl")
    means: dict[str, list[float]] = {}
    for score in scores:
        means.setdefault(score["id"], []).append(score["value"])
    # Each question's mean over its draws, and the spread of these means over the questions.
    by_question = [sum(values) / 6 for values in means.values()]
    mean = sum(by_question) / 40
    spread = sum((value - mean) ** 2 for value in by_question) / 39
    assert row.value == pytest.approx(100 * mean)
    assert row.stderr is not None and row.stderr >= 100 * (spread / 40) ** 0.5 * 0.999
    assert row.stderr < 100 * (spread / 40) ** 0.5 * 1.2
    record = json.loads((result.folder / "run.json").read_text().partition("\n//")[0])
    assert record["sampled"] is True
    again = score_again(result.folder)
    assert again.rows[0].n == 240 and again.rows[0].marks == row.marks == ((Mark("drawn"), 240),)
    ranked = make_task(
        output={"kind": "choice", "choices": ["red", "green"]}, score={"scorer": "choice"}
    )
    (choice,) = evaluate(str(ranked), Sampling(), trials=6, out=tmp_path)
    assert choice.rows[0].trials == 1


def test_one_bad_request_costs_only_itself(make_task: Any, tmp_path: Path) -> None:
    (result,) = evaluate(str(make_task()), odd("one"), out=tmp_path / "runs")
    assert (result.rows[0].n, result.rows[0].unscored) == (11, 1)
    (failed,) = [row for row in lines(result.folder, "responses.jsonl") if "error" in row]
    assert failed["id"] == "q0005"
    assert failed["error"] == "ValueError: a shape that nobody expected"


def test_batches_that_were_asked_again_are_told_once(
    make_task: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Answers are right all the same, and nothing but slowness would show that a batch failed."""
    with Bars() as bars:
        (result,) = evaluate(
            str(make_task(queries=16)), odd("memory"), out=tmp_path / "runs", watcher=bars
        )
    out_of_memory = "RuntimeError: CUDA out of memory. Tried to allocate 20 GiB"
    assert result.end.again == (AskedAgain("RuntimeError", out_of_memory, 2),)
    told = [line for line in capfd.readouterr().err.splitlines() if "retried" in line]
    assert len(told) == 1
    assert "2 batches failed and were retried" in told[0]
    assert told[0].endswith(out_of_memory)
    (result,) = evaluate(str(make_task()), odd(""), out=tmp_path / "good")
    assert result.end.again == ()


@pytest.mark.parametrize("width", [80, 160])
def test_a_narrow_bar_cuts_the_name_and_no_figure(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Console(force_terminal=True, width=width, file=StringIO(), color_system=None)
    monkeypatch.setattr("emu2eval.report.progress.console", lambda err: screen)
    bars = Bars()
    bars.starting(RunStart("easy-vqa-binding", "org--most-common-7b", "4", 120_000, Path()))
    bars.replicas(ReplicasState(wanted=16, up=9))
    bars.settled(6000)
    with screen.capture() as shown:
        screen.print(bars.progress.get_renderable())
    line = shown.get()
    assert "· 4 shots · 9 of 16 replicas" in line and "6000/120000" in line and "0:00:00" in line
    assert ("…" in line) == (width == 80)


def test_tallies_add_up() -> None:
    first, second = Tally(asked=2), Tally(asked=1, failed=1)
    first.note(AskedAgain("ValueError", "a", 1))
    second.note(AskedAgain("ValueError", "b", 2))
    second.note(AskedAgain("KeyError", "c", 1))
    total = first + second
    assert (total.asked, total.failed) == (3, 1)
    assert list(total.again.values()) == [
        AskedAgain("ValueError", "a", 3),
        AskedAgain("KeyError", "c", 1),
    ]
    assert first.again["ValueError"].batches == 1


def test_a_model_that_only_fails_is_given_up(make_task: Any, tmp_path: Path) -> None:
    task = str(make_task(queries=200))
    with pytest.raises(ModelError, match="upside down"):
        evaluate(task, odd("all"), out=tmp_path / "runs")
    assert sum(Odd.calls) < 100


def test_one_that_fails_under_many_ids_is_no_broken_model(make_task: Any, tmp_path: Path) -> None:
    """What equals it fails with it, and says no more of the model."""
    task = make_task(queries=50)
    rows = [json.loads(line) for line in (task.parent / "test.jsonl").read_text().splitlines()]
    rows[4:] = [rows[0] | {"id": row["id"]} for row in rows[4:]]
    (task.parent / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    calls: list[int] = []

    class Fails(Adapter):
        limits = Limits(frozenset({"text"}), batch=1)

        def answer(self, requests: Sequence[Request]) -> list[Response]:
            calls.append(len(requests))
            return [Response(error="no") if len(calls) == 1 else Response(text="red")]

    (result,) = evaluate(str(task), Fails(), out=tmp_path / "runs")
    assert (result.tally.asked, result.tally.failed, result.tally.copied) == (4, 47, 46)


class Scribbles(Adapter):
    limits = Limits(frozenset({"image"}), batch=2)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        drawn = from_pil(PILImage.new("RGB", (4, 4)))
        junk = Image(data=b"<html>busy</html>")
        first = any("square 0?" in str(request.prompt.query) for request in requests)
        return [
            Response(images=(junk if first and not n else drawn,)) for n in range(len(requests))
        ]


def test_a_drawn_image_that_cannot_be_opened_costs_only_itself(
    make_task: Any, tmp_path: Path
) -> None:
    task = make_task(queries=6, output={"kind": "image"}, score={"scorer": "drawing"})
    (plan,) = next(iter(plans([str(task)], [Scribbles()], RunOptions())))
    with RunStore(tmp_path / "run").open_for_writing() as store:
        store.index(plan.questions.slot_of, plan.questions.slots)
        tally = execute(plan, store)
        errors = [answer.error for answer in store.answers() if answer.error is not None]
    assert (tally.asked, tally.failed, len(errors)) == (6, 1, 1)
    assert errors[0].startswith("in the response, this is not an image in a known format")


def test_a_setting_in_which_nothing_was_answered_is_forgotten(
    make_task: Any, tmp_path: Path
) -> None:
    """Else a run that is stopped later would go on in other batches than it began with."""

    class Full(Adapter):
        limits = Limits(frozenset({"text"}), batch=4)

        def identity(self) -> dict[str, Any]:
            return {"version": 1}

        def answer(self, requests: Sequence[Request]) -> list[Response]:
            if len(requests) > 2:
                raise ModelError("too many")
            return [Response(text="red") for _ in requests]

    task, model = str(make_task()), InMemory(Full(), name="full", version="1")
    with pytest.raises(ModelError, match="too many"):
        evaluate(task, model, batch=4, out=tmp_path / "runs")
    (result,) = evaluate(task, model, batch=2, out=tmp_path / "runs")
    assert [each.batch for each in read_record(result.folder).ran_on] == [2]


def test_an_adapter_that_miscounts_is_told(make_task: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="7 responses for 8 requests"):
        evaluate(str(make_task()), odd("short"), out=tmp_path / "runs")


def test_an_answer_of_the_wrong_kind_is_unscored(make_task: Any, tmp_path: Path) -> None:
    (result,) = evaluate(str(make_task()), odd("kind"), out=tmp_path / "runs")
    assert (result.rows[0].n, result.rows[0].unscored) == (0, 12)
    assert result.rows[0].value is None


def test_text_is_cut_at_the_stops(make_task: Any, tmp_path: Path) -> None:
    output = {"stop": ["\n", "."]}
    (result,) = evaluate(str(make_task(output=output)), odd(""), out=tmp_path / "runs")
    assert {row["text"] for row in lines(result.folder, "responses.jsonl")} == {"red"}


def test_a_thought_of_an_adapter_that_knows_nothing_of_it_is_told_apart(
    make_task: Any, tmp_path: Path
) -> None:
    said = {
        "square 0?": "<think>A square.\n\nRed.</think>\n\nred",
        "square 1?": "A square.\n\nGreen.</think>\n\ngreen",
        "square 2?": "\n\nblue",
        "square 3?": "<think>A square.\n\nYel",
    }
    task = str(make_task(queries=4, output={"stop": ["\n"]}))
    (result,) = evaluate(task, ScriptedModel(said), out=tmp_path / "runs")
    rows = {row["id"]: row for row in lines(result.folder, "responses.jsonl")}
    assert [row.get("text") for _, row in sorted(rows.items())] == ["red", "green", "blue", None]
    assert rows["q0000"]["thought"] == "A square.\n\nRed."
    assert [row["raw"] for _, row in sorted(rows.items())] == list(said.values())
    assert (result.rows[0].value, result.rows[0].n, result.failed) == (100, 3, 1)


@pytest.mark.parametrize(
    ("response", "output", "says"),
    [
        (Response(), TextOutput(), "no text"),
        (Response(text=False), TextOutput(), "with text = False"),  # type: ignore[arg-type]
        (Response(text="a", marks=("x",)), TextOutput(), "wrong types in marks"),  # type: ignore[arg-type]
        (Response(log_probs=(-1.0,)), ChoiceOutput(("a", "b")), "every choice"),
        (Response(log_probs=(-1.0, float("nan"))), ChoiceOutput(("a", "b")), "not a number"),
    ],
)
def test_what_is_no_answer(response: Response, output: Output, says: str) -> None:
    assert says in (checked(response, output).error or "")


def test_an_impossible_choice_can_be_stored() -> None:
    response = Response(log_probs=(-1.0, float("-inf")))
    found = checked(response, ChoiceOutput(("a", "b")))
    assert found.log_probs == (-1.0, IMPOSSIBLE)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"images": 4}, "has 5 images, but robot accepts 4"),
        ({"positions": 30}, "positions, but robot has 30"),
        ({"outputs": ["choice"]}, "produces choice, but squares needs text"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_asked(
    make_task: Any, make_model: Any, tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    log = tmp_path / "log"
    model = str(make_model(log=str(log), **settings))
    with pytest.raises(PlanError, match=says):
        evaluate(str(make_task()), model, shots=[0, 4], out=tmp_path / "runs")
    assert not log.exists()
    assert not (tmp_path / "runs").exists()


class Trickle(Odd):
    """Gives answers one by one, the last ones first; raises or miscounts on the way, as told."""

    def stream(self, requests: Iterable[Request]) -> Any:
        requests = list(requests)
        for place in reversed(range(len(requests))):
            if self.fault == "twice":
                yield 0, Response(text="red")
            if self.fault == "half" and place == 0:
                return
            (response,) = self.answer([requests[place]])
            yield place, response


def trickle(fault: str) -> type[Odd]:
    Odd.fault = fault
    return Trickle


def test_what_came_before_an_exception_is_kept(make_task: Any, tmp_path: Path) -> None:
    (result,) = evaluate(str(make_task()), trickle("one"), out=tmp_path / "runs")
    stored = lines(result.folder, "responses.jsonl")
    assert [row["id"] for row in stored[:2]] == ["q0011", "q0010"]
    (failed,) = [row for row in stored if "error" in row]
    assert failed["id"] == "q0005"
    # Six came before it; it and the rest are then asked alone, once more.
    assert len(Trickle.calls) == 6 + 1 + 6
    assert (result.rows[0].n, len(stored)) == (11, 12)


@pytest.mark.parametrize("fault", ["twice", "half"])
def test_an_adapter_that_miscounts_on_the_way_is_told(
    make_task: Any, tmp_path: Path, fault: str
) -> None:
    with pytest.raises(ModelError, match="responses for 12 requests"):
        evaluate(str(make_task()), trickle(fault), out=tmp_path / "runs")
