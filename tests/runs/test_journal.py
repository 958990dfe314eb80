"""What is written is on the disk soon, and a folder that goes away is noticed."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from emu2eval import StoreError, evaluate
from emu2eval.runs import journal
from emu2eval.runs.journal import Journal


def test_the_last_line_before_a_pause_is_forced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, own = threading.Event(), os.fsync

    def fsync(descriptor: int) -> None:
        own(descriptor)
        synced.set()

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(journal, "SYNC_EVERY", 0.01)
    opened = Journal(tmp_path / "file")
    opened.append(b"one\n")
    assert synced.wait(5)
    synced.clear()
    opened.append(b"two\n")
    assert synced.wait(5)
    opened.close()
    assert (tmp_path / "file").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("what", ["removed", "renamed", "replaced"])
def test_a_folder_that_goes_away_is_noticed_at_the_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(journal, "LOOK_EVERY", 0.0)
    folder = tmp_path / "run"
    folder.mkdir()
    opened = Journal(folder / "file")
    opened.append(b"one\n")
    if what == "removed":
        (folder / "file").unlink()
    else:
        folder.rename(tmp_path / "other")
    if what == "replaced":
        folder.mkdir()
        (folder / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="removed or renamed"):
        opened.append(b"two\n")
    opened.close()


def test_a_disk_that_cannot_be_synced_is_told_with_the_next_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fsync(descriptor: int) -> None:
        failed.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(journal, "SYNC_EVERY", 0.0)
    opened = Journal(tmp_path / "file")
    monkeypatch.setattr(os, "fsync", fsync)
    opened.append(b"one\n")
    assert failed.wait(5)
    opened._thread.join(5)
    with pytest.raises(StoreError, match="Input/output"):
        opened.append(b"two\n")
    monkeypatch.undo()
    opened.close()


def test_no_more_is_asked_once_the_folder_is_gone(
    make_task: Any, make_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOOK_EVERY", 0.0)
    own, asked = Journal.append, []

    def append(self: Journal, data: bytes) -> None:
        asked.append(data)
        if len(asked) == 2:
            (tmp_path / "runs").rename(tmp_path / "moved")
        own(self, data)

    monkeypatch.setattr(Journal, "append", append)
    with pytest.raises(StoreError, match="removed or renamed"):
        evaluate(str(make_task()), str(make_model(batch=1)), out=tmp_path / "runs")
    assert len(asked) == 2


@pytest.mark.parametrize("missing", ["pwrite", "pread"])
def test_systems_without_positions_write_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delattr(os, missing)
    (tmp_path / "file").write_bytes(b"one\ntorn")
    opened = Journal(tmp_path / "file")
    opened.append(b"two\n")
    opened.close()
    assert (tmp_path / "file").read_bytes() == b"one\ntwo\n"
