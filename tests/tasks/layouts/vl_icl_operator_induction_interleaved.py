"""VL-ICL's operator_induction_interleaved: three answers in each support item, one operator in each query."""

from __future__ import annotations

from pathlib import Path

from ._vl_icl import operators


def write(root: Path) -> None:
    operators(root, "operator_induction_interleaved", 2)
