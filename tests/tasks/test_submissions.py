"""Runs on hidden splits to the files that the servers want, from each benchmark's own files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emu2eval import evaluate
from emu2eval.exports.submit import submit
from emu2eval.report.notes import notes
from emu2eval.spec.task import load_task

from .conftest import TASKS

HANDED_IN = [name for name in TASKS if load_task(name).spec.submission is not None]
KEYS = {
    "gqa": {"questionId", "prediction"},
    "vizwiz": {"image", "answer"},
    "vqav2": {"question_id", "answer"},
}


def test_the_tasks_with_a_server_are_known() -> None:
    assert set(KEYS) <= set(HANDED_IN)


@pytest.mark.parametrize("name", sorted(KEYS))
def test_complete_whatever_was_answered(
    name: str, roots: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMU2EVAL_DATA", str(roots(name)))
    wanted = load_task(name).spec.submission
    assert wanted is not None
    for split in wanted.splits or (wanted.questions,):
        (result,) = evaluate(name, "nearest", shots=[4], split=split)
        row = result.rows[0]
        assert (row.n, row.unscored, row.hidden, result.failed) == (0, 0, result.tally.asked, 0)
        assert any(f"emu2eval submit {result.folder.name}" in note for note in notes(row))
        written = submit(result.folder)
        entries = json.loads(written.file.read_text())
        assert all(entry.keys() == KEYS[name] for entry in entries)
        answered = [entry for entry in entries if entry.get("answer") or entry.get("prediction")]
        assert len(answered) == result.tally.asked == written.entries - written.filled
        assert written.unanswered == 0
        if name == "vizwiz":
            assert {entry["image"][:12] for entry in entries} == {"VizWiz_test_"}
