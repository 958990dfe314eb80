"""A run's record: what it holds is checked where it is read, with bounds; a damaged one is one paragraph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.errors import StoreError
from emu2eval.runs.record import Extent, read_record, write_record


@pytest.fixture
def run(make_task: Callable[..., Path], tmp_path: Path) -> Path:
    (result,) = evaluate(str(make_task(queries=3)), "most-common", shots=2, out=tmp_path / "runs")
    return result.folder


def test_it_is_read_as_it_was_written(run: Path) -> None:
    before = (run / "run.json").read_bytes()
    record = read_record(run)
    write_record(run, record)
    assert (run / "run.json").read_bytes() == before
    assert run.name.endswith(record.fingerprint[:8])


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (("extent", "limit"), 0),
        (("extent", "trials"), 10**12),
        (("extent",), None),
        (("shots",), [4]),
        (("identity",), {}),
        (("task", "name"), ""),
        (("seed",), "zero"),
        (("format",), 1),
        (("extra",), 1),
        (("changes",), "task.score=…"),
    ],
)
def test_an_edited_record_is_told(run: Path, at: tuple[str, ...], value: Any) -> None:
    path = run / "run.json"
    data = json.loads(path.read_bytes())
    inner = data
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    path.write_text(json.dumps(data))
    with pytest.raises(StoreError, match="damaged") as caught:
        read_record(run)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff"])
def test_a_damaged_record_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StoreError, match="damaged"):
        read_record(tmp_path)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run's folder"):
        read_record(tmp_path)


def test_what_lies_within_what() -> None:
    assert Extent(limit=5).within(Extent(limit=9, trials=2))
    assert Extent(limit=5).within(Extent())
    assert not Extent().within(Extent(limit=5))
    assert not Extent(trials=3).within(Extent(trials=2))
