"""What `--dry-run` prints fits the terminal."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from emu2eval.engine.evaluation import jobs_of, planned
from emu2eval.engine.options import RunOptions
from emu2eval.report.preview import preview

from ..conftest import MakeTask


def test_a_dry_run_is_whole_at_80_columns(make_task: MakeTask, tmp_path: Path) -> None:
    options = RunOptions(shots=(0, 2), out=tmp_path)
    runs = planned(jobs_of([str(make_task())], ["most-common", "nearest"], options))
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(preview(runs))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    assert ["2", "12", "0", "12", "3"] in [line.split()[:5] for line in lines]
