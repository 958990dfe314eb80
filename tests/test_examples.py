"""The examples do what they say: the notebook cell by cell in one namespace, the script with fewer steps."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import emu2eval
from emu2eval.report.notebook import Chart, Evaluation

EXAMPLES = Path(emu2eval.__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def _beside_the_examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(EXAMPLES)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    sys.modules.pop("tiny_model", None)


def shown(source: str, names: dict[str, Any]) -> Any:
    """What a notebook shows of a cell: the value of its last line, where that is an expression."""
    body = ast.parse(source).body
    last = body[-1]
    if not isinstance(last, ast.Expr):
        exec(source, names)
        return None
    exec(compile(ast.Module(body[:-1], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_the_notebook(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "own_model.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    names: dict[str, Any] = {"__name__": "notebook"}
    seen = [shown("".join(cell["source"]), names) for cell in cells if cell["cell_type"] == "code"]
    tables = [each for each in seen if isinstance(each, Evaluation)]
    assert len(tables) == 3 and all("<td" in table._repr_html_() for table in tables)
    history, pivot, wrong, chart = seen[-4 - 1], seen[-3], seen[-2], seen[-1]
    assert [*history] == [10, 20]
    assert history[20]["eval_squares_0shot"] > names["before"][0].rows[0].value  # it learns
    assert list(pivot.columns) == [0, 2] and list(pivot.index) == ["most-common", "trained"]
    assert list(wrong.columns) == ["model", "shots", "id", "prediction"]
    assert isinstance(chart, Chart) and chart._repr_png_().startswith(b"\x89PNG")
    assert (tmp_path / "squares.svg").is_file()


@pytest.mark.slow
def test_the_training_loop(tmp_path: Path) -> None:
    import training_loop

    history = training_loop.main(tmp_path, steps=4, queries=2)
    assert [*history] == [1, 2, 3, 4]
    assert len([*(tmp_path / "runs").iterdir()]) == 8
