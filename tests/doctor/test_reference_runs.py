"""The committed reference runs of emu2-nano come out the same: a fast subset of each kind of task."""

from __future__ import annotations

from pathlib import Path

import pytest

import emu2eval
from emu2eval.doctor.reference import repeat

REFERENCE = Path(emu2eval.__file__).parents[1] / "results" / "reference"


def _folder(beginning: str) -> Path:
    (found,) = REFERENCE.glob(f"{beginning}_*")
    return found


@pytest.mark.parametrize(
    ("beginning", "limit"),
    [
        ("easy-vqa_4-shot_emu2-nano", 60),
        pytest.param("easy-vqa_4-shot_emu2-nano", 150, marks=pytest.mark.slow),
        ("easy-vqa-binding_3-shot_emu2-nano", 60),
        pytest.param("easy-vqa-binding_3-shot_emu2-nano", 150, marks=pytest.mark.slow),
        pytest.param("easy-vqa-binding_8-shot-labels_emu2-nano", 60, marks=pytest.mark.slow),
        pytest.param("easy-vqa-operator_1-shot_emu2-nano", 60, marks=pytest.mark.slow),
        ("easy-vqa-draw-names_4-shot_emu2-nano", 5),
        pytest.param("easy-vqa-draw-names_4-shot_emu2-nano", 12, marks=pytest.mark.slow),
        pytest.param("easy-vqa-binding_8-shot_emu2-nano-early-2", 60, marks=pytest.mark.slow),
        ("easy-vqa-binding_8-shot_nearest", 200),
    ],
)
def test_a_reference_run_comes_out_the_same(beginning: str, limit: int, tmp_path: Path) -> None:
    repeated = repeat(_folder(beginning), tmp_path, limit)
    assert repeated.compared == limit
    assert repeated.agrees, repeated.differing
