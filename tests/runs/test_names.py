"""Names become parts of paths that every system takes, and stay below the folder of results."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest

from emu2eval import evaluate
from emu2eval.adapters.base import Adapter, Limits
from emu2eval.errors import StoreError
from emu2eval.report.listing import listing
from emu2eval.runs import locate
from emu2eval.runs.names import LONGEST, below, path_part
from emu2eval.testing import small_task
from emu2eval.types import Request, Response


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("org/model-7b", "org--model-7b"),
        ("../../../x", "x"),
        ("/abs/x", "abs--x"),
        ("C:\\Users\\x", "C---Users--x"),
        ("nul\0byte", "nul-byte"),
        ("...", "unnamed"),
        ("", "unnamed"),
        (".hidden", "hidden"),
        ("trailing. ", "trailing"),
        ("CON", "-CON"),
        ("aux.txt", "-aux.txt"),
        ("Lpt9", "-Lpt9"),
        ("console", "console"),
        ("a:b*c?d<e>f|g", "a-b-c-d-e-f-g"),
        ("\x1b[31mred", "31mred"),
        ("cut \ud83d", "cut"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
def test_a_name_as_part_of_a_path(name: str, part: str) -> None:
    made = path_part(name)
    assert made == part
    assert path_part(made) == made
    assert PureWindowsPath(made).name == made


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\u65e5", "."])
def test_a_long_name_is_cut_between_letters(letter: str) -> None:
    made = path_part(f"a{letter * 5000}")
    assert len(made.encode()) <= LONGEST
    assert set(made) <= {"a", letter}
    assert not made.endswith(".")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/abs", "a/../../b", "nul\0"])
def test_a_folder_beside_the_results_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="would be outside"):
        below(tmp_path, name)


class Echo(Adapter):
    """Says yes."""

    limits = Limits(outputs=frozenset({"text"}))

    def __init__(self) -> None:
        pass

    def answer(self, requests: list[Request]) -> list[Response]:  # type: ignore[override]
        return [Response(text="yes") for _ in requests]


@pytest.mark.parametrize(
    "name", ["org/model-7b", "../../../x", "/abs/x", "a\0b", "n" * 5000, "AUX"]
)
def test_a_run_of_any_name_is_found_again(tmp_path: Path, name: str) -> None:
    adapter = Echo()
    adapter.name = name  # type: ignore[attr-defined]
    out = tmp_path / "out" / "runs"
    task = small_task(tmp_path, score={"scorer": "exact_match"}, name="mine/../of them")
    (result,) = evaluate(task, adapter, out=out, limit=1)
    assert locate.folders(out) == [result.folder]
    assert result.folder.parent == out
    assert {path.name for path in out.parent.iterdir()} == {"runs"}
    assert listing("runs", out).startswith(result.folder.name)
    assert locate.one(result.folder.name.rpartition("_")[0], out) == result.folder
