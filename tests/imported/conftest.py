"""What tests of imports share: the scores of a run, and files of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emu2eval.report.notes import notes
from emu2eval.runs.scores import read_rows

Program = Callable[..., tuple[int, str, str]]
RUNS = Path("results/runs")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def imported(program: Program) -> Callable[..., tuple[Path, str]]:
    """Runs `emu2eval import …`; returns the folder of the run and what was said."""

    def run(*arguments: str) -> tuple[Path, str]:
        code, _, said = program("import", *map(str, arguments), "--format", "csv")
        assert code == 0, said
        return Path(said.rpartition(" answers stored in ")[2].strip()), said

    return run


@pytest.fixture
def scores() -> Callable[[Path], dict[str, tuple[float | None, str | None]]]:
    """Value and prediction of each sample of a run."""
    return lambda folder: {
        row["id"]: (row["value"], row.get("prediction")) for row in lines(folder / "scores.jsonl")
    }


@pytest.fixture
def row_of() -> Callable[[Path], dict[str, Any]]:
    """The headline of a run, as a table shows it."""

    def row(folder: Path) -> dict[str, Any]:
        head = read_rows(folder)[0]
        shown = {"shots": str(head.shots), "protocol": head.protocol_label, "metric": head.label}
        return {**msgspec.structs.asdict(head), **shown, "notes": list(notes(head))}

    return row


@pytest.fixture
def refused(program: Program) -> Callable[..., str]:
    """What `emu2eval import …` says when it refuses; nothing is stored then."""

    def run(*arguments: str) -> str:
        before = sorted(RUNS.rglob("*"))
        code, _, said = program("import", *map(str, arguments))
        assert code == 2, said
        assert sorted(RUNS.rglob("*")) == before
        return said.partition("error: ")[2]

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Writes a file: texts as they are, lists as JSON lines where the name ends so, else JSON."""

    def make(name: str, content: Any) -> Path:
        path = tmp_path / "theirs" / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        else:
            path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        return path

    return make
