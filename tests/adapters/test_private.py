"""What transformers keeps to itself is named in one file."""

from __future__ import annotations

import ast
from pathlib import Path

import emu2eval

PACKAGE = Path(emu2eval.__file__).parent
PRIVATE = PACKAGE / "adapters" / "local" / "private.py"


def of_others(path: Path, own: set[str]) -> set[str]:
    """Names with one underscore that the file looks up or overrides and the package does not define."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            # torch's kernels have such names in its documentation too.
            torch = isinstance(node.value, ast.Attribute) and node.value.attr == "aten"
            # The system's own is public, whatever it is called.
            system = isinstance(node.value, ast.Name) and node.value.id == "os"
            name = "" if torch or system else node.attr
        elif isinstance(node, ast.FunctionDef):
            name = node.name
        else:
            continue
        if name.startswith("_") and not name.startswith("__") and name not in own:
            found.add(name)
    return found


def test_no_other_file_names_what_is_private_to_transformers() -> None:
    own: set[str] = set()
    rooms = [PACKAGE / "adapters" / name for name in ("emu2", "huggingface", "local")]
    files = [path for room in rooms for path in room.rglob("*.py") if path != PRIVATE]
    kept = of_others(PRIVATE, set())
    assert "_process_images" in kept and "_get_arguments_from_pretrained" in kept
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name not in kept:
                own.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                own.add(node.target.id)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                own.add(node.attr)
    assert {path.name: found for path in files if (found := of_others(path, own))} == {}
