"""One run in several processes that know nothing of each other: the same bytes as in one."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PILImage

from emu2eval.adapters.base import Adapter, Limits
from emu2eval.engine import dealing, merging
from emu2eval.engine.carrying import carry_out
from emu2eval.engine.evaluation import jobs_of, planned
from emu2eval.engine.merging import merge
from emu2eval.engine.options import RunOptions
from emu2eval.engine.planned import PlannedRun
from emu2eval.engine.results import Result
from emu2eval.errors import ConfigError, StoreError
from emu2eval.media.images import from_pil
from emu2eval.runs.locate import find
from emu2eval.runs.lock import take
from emu2eval.runs.parts import RunPart, parts_of
from emu2eval.runs.record import read_record
from emu2eval.runs.store import RunStore
from emu2eval.types import Request, Response, Used
from emu2eval.watch import Watcher


class Device(Adapter):
    """Its answers depend on all of a batch, as a real one's last bits do. fails: unanswered queries."""

    def __init__(self, batch: int = 4):
        self.limits = Limits(frozenset({"text", "choice"}), batch=batch)
        self.asked: list[str] = []
        self.stops_after: int | None = None
        self.dies_after: int | None = None
        self.fails: tuple[str, ...] = ()

    def positions(self, request: Request) -> int:
        return int(request.key[:2], 16)

    def answer(self, requests: Sequence[Request]) -> list[Response]:
        together = sum(int(request.key[:8], 16) for request in requests) % 997
        self.asked += [request.key for request in requests]
        if self.stops_after is not None and len(self.asked) > self.stops_after:
            raise KeyboardInterrupt
        if self.dies_after is not None and len(self.asked) > self.dies_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return [self._one(request, together) for request in requests]

    def _one(self, request: Request, together: int) -> Response:
        text = "".join(part for part in request.prompt.query if isinstance(part, str))
        if any(f"{each}?" in text for each in self.fails):
            return Response(error="out of order")
        if request.output.kind == "choice":
            return Response(log_probs=(-1.0 - together / 1e6, -2.0))
        return Response(text=f"{request.key[:4]} {together}")


class Server(Device):
    """Takes requests one by one, and counts them."""

    def stream(self, requests: Any) -> Any:
        for number, request in enumerate(requests):
            self.asked.append(request.key)
            yield number, Response(text=request.key[:4])

    def used(self) -> Used:
        return Used(requests=len(self.asked))


class Notes(Watcher):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


CHOICE = {"output": {"kind": "choice", "choices": ["red", "green"]}, "score": {"scorer": "choice"}}
TWINS = {"protocols": {"plain": {"ask": "{image}Which colour?"}}}


def run(
    task: Path,
    adapter: Adapter,
    out: Path,
    part: str | RunPart | None = None,
    watcher: Watcher | None = None,
    **given: Any,
) -> tuple[Result, PlannedRun]:
    options = RunOptions.of(out=out, part=part, **{"shots": 2, **given})
    ((one,),) = planned(jobs_of([str(task)], ["most-common"], options))
    object.__setattr__(one.plan, "adapter", adapter)
    for name in ("identity", "record", "folder", "_model_digest"):
        vars(one.plan).pop(name, None)
    (result,) = carry_out([[one]], watcher or Watcher())
    return result, one


def answers(folder: Path) -> dict[tuple[str, int], Any]:
    found: dict[tuple[str, int], Any] = {}
    for each in RunStore(folder).answers():
        assert (each.id, each.trial) not in found, "a row is stored once"
        found[each.id, each.trial] = (
            each.log_probs,
            each.text,
            each.error,
            each.key,
            each.examples,
            each.shown,
            each.images,
        )
    return found


def same(folder: Path, local: Result) -> None:
    assert answers(folder) == answers(local.folder)
    one, other = ((each / "scores.jsonl").read_bytes() for each in (folder, local.folder))
    assert one == other


def only(runs: Path) -> Path:
    (folder,) = runs.iterdir()
    return folder


@pytest.mark.parametrize(
    ("task", "of", "whole_windows"),
    [
        ({}, 2, False),
        (CHOICE, 1, False),
        (CHOICE, 2, True),
        (CHOICE, 3, False),
        ({**CHOICE, **TWINS}, 2, False),
        ({**CHOICE, **TWINS}, 3, True),
    ],
)
def test_the_same_bytes_in_parts(
    make_task: Any,
    tmp_path: Path,
    monkeypatch: Any,
    task: dict[str, Any],
    of: int,
    whole_windows: bool,
) -> None:
    monkeypatch.setattr(dealing, "WINDOWS_EACH", 1 if whole_windows else 1000)
    path = make_task(queries=70, images=30, **task)
    given: dict[str, Any] = {"shots": 0, "batch": 2} if "protocols" in task else {"batch": 2}
    whole = Device()
    local, _ = run(path, whole, tmp_path / "local", **given)
    asked: list[list[str]] = []
    for number in reversed(range(1, of + 1)):
        device = Device()
        result, _ = run(path, device, tmp_path / "parts", f"{number}/{of}", **given)
        assert (result.rows, result.tally.asked) == ([], len(device.asked))
        asked.append(device.asked)
    assert sorted(chain(*asked)) == sorted(whole.asked), "nothing is asked twice"
    assert max(map(len, asked)) - min(map(len, asked)) <= (32 if whole_windows else 4)
    folder = only(tmp_path / "parts")
    first = merge(folder)
    same(folder, local)
    again = merge(folder)
    same(folder, local)
    assert (first.added, again.added) == (70, 0)
    assert first.result.rows[0].value == local.rows[0].value


def test_a_part_goes_on_and_what_failed_is_counted(make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=50, **CHOICE)
    failing = ("square 7", "square 30")
    whole = Device()
    whole.fails = failing
    local, _ = run(path, whole, tmp_path / "local")
    assert local.failed == 2
    stopped = Device()
    stopped.stops_after, stopped.fails = 12, failing
    with pytest.raises(KeyboardInterrupt):
        run(path, stopped, tmp_path / "parts", "1/2")
    rest, other = Device(), Device()
    rest.fails = other.fails = failing
    result, _ = run(path, rest, tmp_path / "parts", "1/2")
    assert result.tally.kept >= 8
    run(path, other, tmp_path / "parts", "2/2")
    folder = only(tmp_path / "parts")
    merged = merge(folder)
    same(folder, local)
    assert (merged.result.failed, merged.unanswered) == (2, 0)
    assert merged.result.why == "out of order"
    for number in (1, 2):  # tried again, and merged again
        run(path, Device(), tmp_path / "parts", f"{number}/2")
    assert (merge(folder).added, merge(folder).result.failed) == (2, 0)


def test_a_part_that_is_missing_is_named_with_its_command(make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=50)
    out = tmp_path / "parts"
    part = RunPart.parse("2/3", ("run", "--task", "a b"))
    run(path, Device(), out, part)
    stopped = Device()
    stopped.stops_after = 8
    with pytest.raises(KeyboardInterrupt):
        run(path, stopped, out, "1/3")
    folder = only(out)
    with pytest.raises(StoreError) as raised:
        merge(folder)
    said = str(raised.value)
    assert "2 parts have not ended: 1/3 (8 answers so far, on " in said
    assert "3/3 (not begun)" in said
    assert "emu2eval run --task 'a b' --part 1/3" in said
    assert not (folder / "run.json").exists(), "nothing was written"
    with pytest.raises(StoreError, match=r"is only in parts so far \(1 of 3 ended\)"):
        find([folder.name], out)
    merged = merge(folder, partial=True)
    stored = len(answers(folder))
    assert stored == 8 + len(merged.result.rows and answers(folder / "parts" / "2-of-3"))
    assert merged.unanswered == 50 - stored == merged.result.rows[0].unscored
    with pytest.raises(StoreError, match="has parts that are not merged"):
        run(path, Device(), out)
    for number in (1, 3):
        run(path, Device(), out, f"{number}/3")
    local, _ = run(path, Device(), tmp_path / "local")
    assert merge(folder).unanswered == 0
    same(folder, local)
    run(path, Device(), out)  # nothing is left to merge


def test_a_merge_that_is_killed_goes_on(make_task: Any, tmp_path: Path, monkeypatch: Any) -> None:
    path = make_task(queries=60, **CHOICE)
    local, _ = run(path, Device(), tmp_path / "local")
    for number in (1, 2):
        run(path, Device(), tmp_path / "parts", f"{number}/2")
    folder = only(tmp_path / "parts")
    monkeypatch.setattr(merging, "AT_ONCE", 7)
    written = RunStore.append
    for stop in (3, 5):
        count = 0

        def append(store: RunStore, rows: Any, stop: int = stop) -> None:
            nonlocal count
            count += 1
            if count == stop:
                raise KeyboardInterrupt
            written(store, rows)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(RunStore, "append", append)
            merge(folder)
    merge(folder)
    same(folder, local)


def test_parts_are_removed_once_all_is_there(make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=50)
    out = tmp_path / "parts"
    for number in (1, 2):
        run(path, Device(), out, f"{number}/2")
    folder = only(out)
    lock = take(parts_of(folder)[0])
    assert lock is not None
    with lock, pytest.raises(StoreError, match="is still being answered"):
        merge(folder, clean=True)
    merge(folder, clean=True)
    assert not (folder / "parts").exists()
    assert merge(folder).added == 0
    # Another number of parts finds all of it there.
    device = Device()
    run(path, device, out, "2/4")
    assert device.asked == []


def test_an_earlier_part_of_the_run_is_not_asked_again(make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=50)
    out = tmp_path / "parts"
    before = Device()
    run(path, before, out, limit=20)
    devices = [Device(), Device()]
    for number, device in enumerate(devices, 1):
        run(path, device, out, f"{number}/2")
    assert sum(len(device.asked) for device in devices) == 30
    folder = only(out)
    assert merge(folder).unanswered == 0
    assert len(answers(folder)) == 50


@pytest.mark.parametrize(
    ("part", "given", "says"),
    [
        ("1/3", {}, "they are 2, not 3"),
        ("2/2", {"limit": 30}, "they answer all queries, not 30 queries"),
        ("2/2", {"batch": 8}, "they answer batches of 4, and this one batches of 8"),
    ],
)
def test_parts_of_another_deal_are_refused(
    make_task: Any, tmp_path: Path, part: str, given: dict[str, Any], says: str
) -> None:
    path = make_task(queries=60)
    run(path, Device(), tmp_path / "parts", "1/2")
    with pytest.raises(StoreError, match=says):
        run(path, Device(), tmp_path / "parts", part, **given)


def test_parts_with_nothing_to_do_are_told(make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=10)
    device = Device()
    told = Notes()
    run(path, device, tmp_path / "parts", "4/8", watcher=told)
    assert device.asked == []
    assert told.notes[-1] == (
        "squares, most-common, 2 shots: 10 requests in batches of 4: only parts 1 to 3 have anything to "
        "do, of 8"
    )
    for number in (1, 2, 3):
        run(path, Device(), tmp_path / "parts", f"{number}/8")
    assert merge(only(tmp_path / "parts")).unanswered == 0


def test_a_server_is_asked_once_by_all_parts(make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=50, images=20, **TWINS)
    servers = [Server() for _ in range(3)]
    for number, server in enumerate(servers, 1):
        run(path, server, tmp_path / "parts", f"{number}/3", shots=0)
    folder = only(tmp_path / "parts")
    for _ in range(2):
        merge(folder)
        record = read_record(folder)
        assert record.spent is not None and record.spent.requests == 20
    (ran,) = record.ran_on
    assert (ran.replicas, ran.hosts, ran.parts) == (
        len([s for s in servers if s.asked]),
        1,
        ran.replicas,
    )
    assert len(answers(folder)) == 50


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0"])
def test_a_part_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--part cannot be"):
        RunOptions.of(part=text)


def test_parts_in_processes_of_their_own_of_which_one_is_killed(
    make_task: Any, tmp_path: Path
) -> None:
    path = make_task(queries=60, **CHOICE)
    local, _ = run(path, Device(), tmp_path / "local")
    out = tmp_path / "parts"
    fork = multiprocessing.get_context("fork")

    def start(number: int, dies: bool = False) -> Any:
        device = Device()
        device.dies_after = 8 if dies else None
        process = fork.Process(target=run, args=(path, device, out, f"{number}/3"))
        process.start()
        return process

    codes = []
    for batch in ([(1, True), (2, False), (3, False)], [(1, False)]):
        processes = [start(number, dies) for number, dies in batch]
        for process in processes:
            process.join()
            codes.append(process.exitcode)
    assert codes == [-signal.SIGKILL, 0, 0, 0]
    folder = only(out)
    assert len(answers(folder / "parts" / "1-of-3")) == 20
    merge(folder)
    same(folder, local)


class Other(Device):
    def identity(self) -> dict[str, str]:
        return {"weights": "cd"}


def test_a_part_with_other_weights_is_named(make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=20)
    out = tmp_path / "parts"
    run(path, Device(), out, "1/2")
    folder = only(out)
    run(path, Other(), out, "2/2")
    (other,) = (each for each in out.iterdir() if each != folder)
    with pytest.raises(StoreError) as raised:
        merge(folder)
    assert (
        f"2/2 (not begun, but in {other.name} there is one, where model.files.weights is cd, not None)"
        in raised.value.what
    )


def test_with_batch_auto_the_first_part_decides(make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=50, **CHOICE)
    local, _ = run(path, Device(), tmp_path / "local", batch=8)
    run(path, Device(), tmp_path / "parts", "1/2", batch=8)
    run(path, Device(), tmp_path / "parts", "2/2", batch="auto")
    folder = only(tmp_path / "parts")
    merge(folder)
    same(folder, local)


def test_what_was_being_removed_is_said_and_removed_all_the_same(
    make_task: Any, tmp_path: Path
) -> None:
    path = make_task(queries=20, **TWINS)
    for number in (1, 2):
        run(path, Server(), tmp_path / "parts", f"{number}/2", shots=0)
    folder = only(tmp_path / "parts")
    merge(folder)
    before = read_record(folder)
    shutil.rmtree(parts_of(folder)[0])
    merge(folder, clean=True)
    assert read_record(folder) == before and before.spent is not None
    assert not (folder / "parts").exists()


class Painter(Device):
    def __init__(self) -> None:
        super().__init__()
        self.limits = Limits(frozenset({"image"}), batch=4)

    def _one(self, request: Request, together: int) -> Response:
        return Response(images=(from_pil(PILImage.new("RGB", (4, 4), (together % 256, 0, 0))),))


def test_images_are_brought_along(make_task: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("emu2eval.scorers.drawing._wanted", lambda *_: ("red", "circle"))
    path = make_task(queries=20, output={"kind": "image"}, score={"scorer": "drawing"})
    local, _ = run(path, Painter(), tmp_path / "local", shots=0)
    for number in (1, 2):
        run(path, Painter(), tmp_path / "parts", f"{number}/2", shots=0)
    folder = only(tmp_path / "parts")
    merge(folder, clean=True)
    same(folder, local)
    drawn = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    assert drawn == {path.name: path.read_bytes() for path in (local.folder / "images").iterdir()}
    assert drawn
