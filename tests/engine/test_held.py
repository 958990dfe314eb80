"""Continuing a run: what is stored costs nothing, and what is no longer true is asked again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from PIL import Image as PILImage

from emu2eval import evaluate
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.engine import held, plan
from emu2eval.engine.prompting import Prompts
from emu2eval.engine.results import Result
from emu2eval.errors import PlanError
from emu2eval.media import images, remembered
from emu2eval.runs.answers import to_line
from emu2eval.runs.record import known_record
from emu2eval.runs.store import RunStore
from emu2eval.types import Request, Response


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[Any]]:
    """Records the calls of a function or method from now on."""

    def count(owner: Any, name: str) -> list[Any]:
        own, calls = getattr(owner, name), list[Any]()

        def called(*given: Any, **named: Any) -> Any:
            calls.append(given)
            return own(*given, **named)

        monkeypatch.setattr(owner, name, called)
        return calls

    return count


@pytest.fixture
def few_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request is checked before loading, and one held answer is compared by its key."""
    monkeypatch.setattr(plan, "FIRST", 1)
    monkeypatch.setattr(held, "BUILT", 1)


@pytest.fixture
def run(make_task: Any, make_model: Any, tmp_path: Path) -> Callable[[], Result]:
    task, model = str(make_task(queries=30)), str(make_model(default="red"))
    return lambda: evaluate(task, model, shots=[2], out=tmp_path / "runs")[0]


@pytest.mark.parametrize("shots", ["0", "2", "0*"])
def test_a_repeat_draws_and_builds_nothing(
    make_task: Any, make_model: Any, tmp_path: Path, counted: Any, few_looks: None, shots: str
) -> None:
    task, model = str(make_task(queries=30)), str(make_model(default="red"))
    (first,) = evaluate(task, model, shots=[shots], out=tmp_path / "runs")
    built = counted(Prompts, "at")
    (again,) = evaluate(task, model, shots=[shots], out=tmp_path / "runs")
    assert (again.tally.asked, again.tally.kept) == (0, 30)
    assert again.rows == first.rows
    # The first of the run is checked, and looked at for what is to be said and planned; one held answer is
    # compared.
    assert len(built) == 2


def test_another_process_reads_no_image_that_has_not_changed(
    run: Callable[[], Result], counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "SETTLED", 0.0)
    run()
    _as_another_process()
    examined = counted(images, "_examine")
    assert run().tally.kept == 30
    assert examined == []


def _as_another_process() -> None:
    remembered.files().close()
    remembered._by_root.clear()
    images._infos.clear()


def test_a_changed_demonstration_asks_again_what_showed_it(
    run: Callable[[], Result], few_looks: None, tmp_path: Path
) -> None:
    folder = run().folder
    answers = [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]
    name = answers[0]["examples"][0]
    showed = sum(name in answer["examples"] for answer in answers)
    PILImage.new("RGB", (20, 20), "white").save(
        tmp_path / "squares/images" / f"{int(name[1:]):04}.png"
    )
    tally = run().tally
    assert (tally.asked, tally.kept) == (showed, 30 - showed)
    assert run().tally.kept == 30


def test_exchanged_images_are_asked_about_again(
    run: Callable[[], Result], few_looks: None, tmp_path: Path
) -> None:
    run()
    one, other = (tmp_path / "squares/images" / f"{number:04}.png" for number in (3, 9))
    shutil.move(one, tmp_path / "kept.png")
    shutil.move(other, one)
    shutil.move(tmp_path / "kept.png", other)
    assert run().tally.asked == 2


def exchange(one: Path, other: Path) -> None:
    kept = one.with_name("kept.png")
    shutil.move(one, kept)
    shutil.move(other, one)
    shutil.move(kept, other)


def test_a_query_that_changes_places_with_its_demonstration_is_asked_again(
    run: Callable[[], Result], few_looks: None, tmp_path: Path
) -> None:
    answers = stored(run().folder)
    query, shown = answers[9]["id"], answers[9]["examples"][1]
    one, other = (tmp_path / "squares/images" / f"{name[1:]}.png" for name in (query, shown))
    exchange(one, other)
    changed = [a for a in answers if a["id"] == query or shown in a["examples"]]
    assert run().tally.asked == len(changed)


def test_the_images_of_one_question_that_change_places_are_shown_again(
    make_task: Any, make_model: Any, few_looks: None, tmp_path: Path
) -> None:
    task = make_task(queries=6, protocols={"plain": {"ask": "{images}{question} Answer:"}})
    rows = [json.loads(line) for line in (task.parent / "test.jsonl").read_text().splitlines()]
    names = [row["image"] for row in rows]
    for row, one, other in zip(rows, names, [*names[1:], names[0]], strict=True):
        row["image"] = [one, other]
    (task.parent / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = str(make_model(default="red"))
    evaluate(str(task), model, out=tmp_path / "runs")
    folder = task.parent / "images"
    exchange(folder / "0003.png", folder / "0004.png")
    # The one that shows both, and its neighbours.
    assert evaluate(str(task), model, out=tmp_path / "runs")[0].tally.asked == 3


def test_demonstrations_that_are_dealt_images_are_compared_by_their_requests(
    make_task: Any, make_model: Any, few_looks: None, tmp_path: Path
) -> None:
    task, model = str(make_task(queries=30)), str(make_model(default="red"))

    def run() -> Result:
        return evaluate(task, model, shots=[2], ablate="images", out=tmp_path / "runs")[0]

    answers = stored(run().folder)
    one, other = answers[3]["examples"]
    exchange(*(tmp_path / "squares/images" / f"{name[1:]}.png" for name in (one, other)))
    changed = [a for a in answers if {one, other} & {*a["examples"]}]
    assert run().tally.asked == len(changed)


def test_an_error_in_place_of_an_answer_is_asked_again(
    run: Callable[[], Result], few_looks: None, tmp_path: Path
) -> None:
    folder = run().folder
    with RunStore(folder).open_for_writing() as store:
        last = [*store.answers()][-1]
    other = msgspec.structs.replace(last, key="f" * 64, text=None, error="of another release")
    with (folder / "responses.jsonl").open("ab") as lines:
        lines.write(to_line(other))
    tally = run().tally
    assert (tally.kept, tally.copied + tally.asked, tally.failed) == (29, 1, 0)


def test_every_request_is_compared_where_another_release_asked(
    run: Callable[[], Result], few_looks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run().folder
    monkeypatch.setattr("emu2eval.__version__", "99")
    own = plan.request_key

    def other(asked: Any, *given: Any) -> str:
        key = own(asked, *given)
        return key[::-1] if "square 20?" in str(asked.query) else key

    monkeypatch.setattr(plan, "request_key", other)
    assert (run().tally.asked, known_record(folder).versions["emu2eval"]) == (1, "99")
    assert run().tally.kept == 30


def test_answers_that_another_release_left_among_ours_are_asked_again(
    run: Callable[[], Result], few_looks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run().folder
    # Nearly all are of another release; the first is ours, asked anew before a kill.
    with RunStore(folder).open_for_writing() as store:
        answers = [*store.answers()]
    lines = [to_line(msgspec.structs.replace(a, key=a.key[::-1])) for a in answers]
    (folder / "responses.jsonl").write_bytes(b"".join([*lines, to_line(answers[0])]))
    assert run().tally.kept == 1


def stored(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines()]


def test_an_image_that_is_gone_is_reported_and_nothing_is_lost(
    run: Callable[[], Result], few_looks: None, tmp_path: Path
) -> None:
    folder = run().folder
    (tmp_path / "squares/images/0003.png").unlink()
    before = (folder / "responses.jsonl").read_bytes()
    with pytest.raises(Exception, match="does not exist"):
        run()
    assert (folder / "responses.jsonl").read_bytes() == before


def test_a_program_that_builds_other_prompts_asks_all_again(
    run: Callable[[], Result], monkeypatch: pytest.MonkeyPatch, few_looks: None
) -> None:
    run()
    own = plan.request_key
    monkeypatch.setattr(plan, "request_key", lambda *given: own(*given)[::-1])
    assert run().tally.asked == 30


class Slow(Adapter):
    """Loads only once a request that it refuses was looked at."""

    limits = Limits(frozenset({"text"}))
    seen: list[str]
    found: Event

    def refusal(self, request: Request) -> str | None:
        self.seen.append(request.key)
        bad = "square 20?" in str(request.prompt.query[-1])
        if bad:
            self.found.set()
        return "it does not like squares" if bad else None

    def load(self) -> None:
        assert self.found.wait(20)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        raise AssertionError("it was asked")


def test_a_late_request_that_cannot_be_asked_is_reported_before_any_is(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FIRST", 2)
    Slow.seen, Slow.found = [], Event()
    with pytest.raises(PlanError, match="does not like squares"):
        evaluate(str(make_task(queries=30)), Slow, batch=1, out=tmp_path / "runs")
    Slow.found.set()


class Quick(Slow):
    """Refuses nothing."""

    def refusal(self, request: Request) -> str | None:
        self.seen.append(request.key)
        if len(self.seen) > 30:
            self.found.set()
        return None

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        return [Response("red") for _ in requests]


def test_what_was_checked_during_loading_is_not_checked_again(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FIRST", 2)
    Quick.seen, Quick.found = [], Event()
    evaluate(str(make_task(queries=40)), Quick, batch=1, out=tmp_path / "runs")
    # Two before loading; the first window of sixteen; and those checked while the model was loaded.
    assert len(set(Quick.seen)) == 40
    assert len(Quick.seen) <= 2 + 16 + 40


REFUSED: list[str] = []


class Later(Quick):
    """Refuses, on a second day, a demonstration that it was shown on the first."""

    def identity(self) -> dict[str, str]:
        return {"weights": "the same"}

    def refusal(self, request: Request) -> str | None:
        bad = any(text in str(request.prompt.turns) for text in REFUSED)
        if bad:
            self.found.set()
        return "it does not like squares" if bad else None

    def load(self) -> None:
        self.found.wait(0.2)  # time enough to look at all


def test_what_is_answered_is_not_refused_while_the_model_is_loaded(
    make_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "FIRST", 0)
    task = str(make_task(queries=6))

    def run(limit: int, out: str = "runs") -> Result:
        Later.found = Event()
        return evaluate(task, Later, shots=[2], ablate="labels", limit=limit, out=tmp_path / out)[0]

    shown = {answer["id"]: {*answer["examples"]} for answer in stored(run(6, "all").folder)}
    answered = {answer["id"] for answer in stored(run(5).folder)}
    (last,) = shown.keys() - answered
    refused = min(set().union(*map(shown.__getitem__, answered)) - shown[last])
    monkeypatch.setitem(globals(), "REFUSED", [f"square {refused[1:]}?"])
    assert run(6).tally.kept == 5


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(remembered, "SETTLED", 0.0)
    return tmp_path / "cache/files.sqlite"


STATE = (1, 2, 3, 4)


def test_what_was_found_is_recalled_by_another_process(table: Path) -> None:
    one = remembered.RememberedFiles(table)
    one.keep("a.png", STATE, b"found")
    assert one.recall("a.png", STATE) == b"found"
    one.close()
    other = remembered.RememberedFiles(table)
    assert other.recall("a.png", STATE) == b"found"
    assert other.recall("b.png", STATE) is None
    assert other.recall("a.png", (1, 2, 3, 5)) is None


def test_a_table_is_read_at_once_where_much_is_looked_up(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "MANY", 2)
    one = remembered.RememberedFiles(table)
    for number in range(9):
        one.keep(f"{number}.png", STATE, b"found")
    one.close()
    other = remembered.RememberedFiles(table)
    assert [other.recall(f"{number}.png", STATE) for number in range(10)] == [b"found"] * 9 + [None]
    other.keep("7.png", (1, 2, 3, 9), b"new")
    other.close()
    assert other.recall("7.png", STATE) is None
    assert other.recall("7.png", (1, 2, 3, 9)) == b"new"


def test_a_file_that_was_only_just_written_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").write_bytes(b"1")
    state = remembered.state_of((tmp_path / "new").stat())
    one = remembered.RememberedFiles(tmp_path / "files.sqlite")
    one.keep("new", state, b"found")
    assert one.recall("new", state) is None


@pytest.mark.parametrize("damage", ["text", "cut", "row"])
def test_a_damaged_table_is_begun_anew_and_never_believed(table: Path, damage: str) -> None:
    import sqlite3

    one = remembered.RememberedFiles(table)
    for number in range(200):
        one.keep(f"{number}.png", STATE, b"found")
    one.close()
    if damage == "text":
        table.write_bytes(b"this is not a table" * 99)
    elif damage == "cut":
        table.write_bytes(table.read_bytes()[:5000])
    else:
        with sqlite3.connect(table) as rows:
            rows.execute("UPDATE files SET found = ?", (b"other",))
        rows.close()
    other = remembered.RememberedFiles(table)
    assert {other.recall(f"{number}.png", STATE) for number in range(200)} <= {None, b"found"}
    other.close()
    third = remembered.RememberedFiles(table)
    third.keep("7.png", STATE, b"again")
    assert third.recall("7.png", STATE) == b"again"
    third.close()
    assert remembered.RememberedFiles(table).recall("7.png", STATE) == b"again"


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, table: Path) -> None:
    table.parent.write_bytes(b"a file where the folder should be")
    one = remembered.RememberedFiles(table)
    one.keep("a.png", STATE, b"found")
    one.close()
    assert one.recall("a.png", STATE) is None


def test_a_cache_that_may_not_be_looked_into_is_done_without(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, **_: Any) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refused)
    assert remembered.RememberedFiles(table).recall("a.png", STATE) is None


def test_another_file_in_its_place_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "SETTLED", 0.0)
    path = tmp_path / "a.bmp"
    PILImage.new("RGB", (8, 8), "red").save(path)
    first = images.info(images.Image(str(path)))
    stat = path.stat()
    PILImage.new("RGB", (8, 8), "blue").save(tmp_path / "b.bmp")
    assert (tmp_path / "b.bmp").stat().st_size == stat.st_size
    os.utime(tmp_path / "b.bmp", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (tmp_path / "b.bmp").replace(path)
    _as_another_process()
    # Same size, same time of change: `rsync -t` and `cp -p` do that.
    assert images.info(images.Image(str(path))).digest != first.digest
