"""Every task from its official files to a table: baselines under each protocol, and a tiny Emu2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from emu2eval.data.load import load_split
from emu2eval.spec import catalog
from emu2eval.spec.task import load_task

from .conftest import baseline, drawn, judged, protocols, quickly, seen_by, shots

Command = Callable[..., str]


def complete(printed: str, task: str, split: str, wanted: list[str]) -> None:
    """Every query counts in every row: scored, or not for a reason that is stored with it."""
    queries = len(load_split(load_task(task, split=split), split))
    queries *= load_task(task).spec.output.takes
    rows = [row for row in json.loads(printed) if row["group"] is None]
    assert [s for s in wanted if any(row["shots"] == s for row in rows)] == wanted
    # One of a scorer's numbers may be missing, such as a precision without a yes, but not all of them.
    assert any(row["value"] is not None for row in rows) == any(row["n"] for row in rows), rows
    for row in rows:
        assert row["n"] + row["unscored"] + row["hidden"] == queries, row
        assert row["value"] is None or row["n"], row
        scores = catalog.results_root() / row["run"] / "scores.jsonl"
        for score in map(json.loads, scores.read_text(encoding="utf-8").splitlines()):
            reason = score.get("why")
            assert score["value"] is not None or reason not in (None, "no answer yet"), score


def test_a_baseline_gives_a_table(
    task: str, protocol: str, root: Path, command: Command, tiny_clip: Path
) -> None:
    asked = ["run", "--task", task, "--protocol", protocol, "-f", "json"]
    asked += [*drawn(task, protocol), *quickly(task), *seen_by(tiny_clip, task)]
    wanted = shots(task, "0", "4")
    model = baseline(task, protocol)
    printed = command(*asked, *judged(task), "--model", model, "--shots", *wanted)
    complete(printed, task, load_task(task).spec.split, wanted)


def test_every_split_is_read(
    task: str, other_split: str, root: Path, command: Command, tiny_clip: Path
) -> None:
    asked = ["run", "--task", task, "--split", other_split, "--model", baseline(task), "-f", "json"]
    added = [*quickly(task), *judged(task), *seen_by(tiny_clip, task)]
    complete(command(*asked, *added), task, other_split, ["0"])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
def test_a_tiny_emu2_gives_a_table(task: str, root: Path, command: Command, tiny_emu2: str) -> None:
    """Under the protocol of the base model, where the task has one."""
    protocol = "emu2" if "emu2" in protocols(task) else load_task(task).spec.protocol
    spec = load_task(task, protocol=protocol).spec
    if spec.output.kind == "image":
        pytest.skip("the base model answers with text")
    asked = ["run", "--task", task, "--protocol", protocol, "-f", "json"]
    asked += [*drawn(task, protocol), *quickly(task)]
    if spec.output.kind == "text":
        # What a random model says is not worth many words.
        asked += ["--set", "task.output.max_new_tokens=3"]
    wanted = shots(task, "0", "4")
    printed = command(*asked, *judged(task), "--model", tiny_emu2, "--shots", *wanted)
    complete(printed, task, spec.split, wanted)
