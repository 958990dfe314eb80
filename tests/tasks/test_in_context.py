"""Images as replies of demonstrations, drawn by a tiny Emu2-Gen through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from emu2eval.spec import catalog

from .conftest import judged, seen_by, shots

SMALL = {"width": 64, "height": 64, "steps": 1}
TASKS = [
    ("cobsat", "color-1"),
    ("vl_icl_cobsat", "query"),
    ("vl_icl_open_t2i_mi", "query"),
    ("vl_icl_fast_attr_t2i", "query"),
    ("vl_icl_fast_count_t2i", "query"),
    ("dreambench_plus", "all"),
]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
@pytest.mark.parametrize(("name", "split"), TASKS)
def test_a_tiny_emu2_gen_draws_a_table_and_a_sheet(
    name: str,
    split: str,
    roots: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[..., str],
    tiny_emu2_gen: Path,
    tiny_clip: Path,
) -> None:
    monkeypatch.setenv("EMU2EVAL_DATA", str(roots(name)))
    asked = ["run", "--task", name, "--split", split, "--model", str(tiny_emu2_gen), "-f", "json"]
    asked += [*judged(name), *seen_by(tiny_clip, name), "--limit", "2"]
    for key, value in SMALL.items():
        asked += ["--set", f"task.output.{key}={value}"]
    wanted = shots(name, "0", "2")
    rows = [row for row in json.loads(command(*asked, "--shots", *wanted)) if row["group"] is None]
    assert {row["shots"] for row in rows} == set(wanted)
    assert all(row["n"] + row["unscored"] == 2 for row in rows)
    for run in {row["run"] for row in rows}:
        folder = catalog.results_root() / run
        lines = (folder / "responses.jsonl").read_text(encoding="utf-8").splitlines()
        drawn = [json.loads(line)["images"][0] for line in lines]
        assert len(drawn) == 2 and all(drawn)
        command("sheet", str(folder), "--file", "sheet.png")
        with Image.open("sheet.png") as sheet:
            assert min(sheet.size) > 64
