"""`run --part` and `merge`, as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emu2eval.runs.parts import known_deal


def test_parts_as_they_are_typed(program: Any, make_task: Any, tmp_path: Path) -> None:
    path = make_task(queries=40)
    run = ["run", "--task", str(path), "--model", "nearest", "--batch", "8", "--out"]
    local, out = str(tmp_path / "local"), str(tmp_path / "runs")
    assert program(*run, local)[0] == 0
    code, said, notes = program(*run, out, "--part", "2/2")
    assert (code, said) == (0, "")
    assert ", part 2/2: 16 requests asked, 0 answered before\n" in notes
    assert "when all parts have ended: emu2eval merge" in notes

    (folder,) = Path(out).iterdir()
    deal = known_deal(folder)
    assert deal is not None and deal.command == (*run, out)
    code, said, notes = program("merge", "--out", out)
    assert (code, said) == (2, "")
    typed = " ".join([*run, out])
    assert f"1 part has not ended: 1/2 (not begun)\n  where: {folder}" in notes
    assert f"  try:   emu2eval {typed} --part 1/2; or, to score what there is" in notes

    # Whatever looks at runs says so, and crashes nowhere.
    told = f"{folder.name} is only in parts so far (1 of 2 ended)"
    for verb in (["ls", "runs"], ["table"]):
        code, _, notes = program(*verb, "--out", out)
        assert code == 0 and f"{told}; emu2eval merge {folder.name}" in notes
    for verb in ("score", "table", "report"):
        code, _, notes = program(verb, folder.name, "--out", out)
        assert code == 2 and f"error: {told}\n" in notes
    code, _, notes = program(*run, out)
    assert code == 2 and told in notes

    code, said, notes = program("merge", folder.name, "--out", out, "--partial")
    assert code == 3 and "no answer yet and stay unscored; give these parts again: 1/2" in notes
    assert program(*run, out, "--part", "1/2")[0] == 0
    code, said, notes = program("merge", "--out", out, "--clean")
    assert code == 0
    (other,) = Path(local).iterdir()
    assert (folder / "scores.jsonl").read_bytes() == (other / "scores.jsonl").read_bytes()
    assert (
        program("table", "--out", out, "-f", "csv")[1]
        == program("table", "--out", local, "-f", "csv")[1]
    )
    code, _, notes = program("merge", "--out", out)
    assert code == 0 and "no run has parts" in notes
