"""A label is what tables call the model of a run; it decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emu2eval import evaluate
from emu2eval.errors import ConfigError
from emu2eval.runs.apart import read_table_run, told_apart
from emu2eval.runs.record import read_record


def test_a_label_is_shown_kept_and_taken_back(make_task: Any, tmp_path: Path) -> None:
    task = str(make_task())

    def run(**label: str) -> Any:
        (result,) = evaluate(task, "nearest", shots=1, limit=3, out=tmp_path / "o", **label)
        return result

    first = run()
    named = run(label="mine")
    assert named.folder == first.folder and named.tally.asked == 0
    assert read_record(named.folder).fingerprint == read_record(first.folder).fingerprint
    assert (first.rows[0].model, named.rows[0].model) == ("nearest", "mine")
    assert run().rows[0].model == "mine"  # it stays where nothing is said
    (shown,) = told_apart([read_table_run(named.folder)])
    assert shown.rows[0].model == "mine"
    assert run(label="").rows[0].model == "nearest"


def test_a_label_is_of_one_model(make_task: Any) -> None:
    with pytest.raises(ConfigError, match="names a single model, but 2 are given"):
        evaluate(str(make_task()), ["nearest", "most-common"], label="mine")
