"""Imports point the same way as the data; the command line starts without the heavy libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import emu2eval

PACKAGE = Path(emu2eval.__file__).parent

# The floors of the house, the lowest first: a package imports what stands on its own floor or below.
FLOORS = (
    "types errors watch",
    "spec media statistics registry scripts trust",
    "data runs prompts identity",
    "adapters encoders",
    "scorers fewshot testing",
    "engine",
    "compare papers imported exports doctor training",
    "report",
    "cli",
)
FLOOR = {name: number for number, floor in enumerate(FLOORS, 1) for name in floor.split()}

# An adapter sees prompts and nothing else; a scorer sees samples and responses and nothing else.
BLIND = {
    "adapters": {"data", "runs", "fewshot", "prompts", "scorers", "engine"},
    "scorers": {"data", "runs", "fewshot", "prompts", "adapters", "engine"},
}


@cache
def _imports() -> list[tuple[str, str, str]]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        inner = path.relative_to(PACKAGE)
        if str(inner) in ("__init__.py", "__main__.py"):
            continue  # the first re-exports by name, and imports nothing until asked
        part = inner.parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                whole = node.module == "emu2eval"
                names = [f"emu2eval.{a.name}" for a in node.names] if whole else [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name.startswith("emu2eval."):
                    found.append((str(inner), part, name.split(".")[1]))
    return found


def test_every_package_has_a_floor() -> None:
    packages = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    assert packages - {"__init__", "__main__", "__pycache__", "py.typed"} == set(FLOOR)


def test_no_import_points_upward() -> None:
    upward = [(file, target) for file, part, target in _imports() if FLOOR[target] > FLOOR[part]]
    assert upward == []


def test_no_modules_import_one_another() -> None:
    """Imports that run on import; those inside functions or for types alone close no circle."""
    modules = {
        ".".join(("emu2eval", *path.relative_to(PACKAGE).with_suffix("").parts)): path
        for path in PACKAGE.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        wanted: set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                wanted |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
        graph[name] = {each for each in wanted if each in modules and each != name}
    while leaves := [name for name, wanted in graph.items() if not wanted & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert graph == {}


def test_no_two_public_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_adapters_and_scorers_see_only_what_they_should() -> None:
    peeking = [(file, target) for file, part, target in _imports() if target in BLIND.get(part, ())]
    assert peeking == []


@pytest.mark.parametrize("arguments", [["--help"], ["ls", "tasks"], ["ls", "models"]])
def test_starts_without_heavy_libraries(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "emu2eval.cli", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert "typer" in imported
    assert not imported & {
        "torch",
        "transformers",
        "pandas",
        "numpy",
        "datasets",
        "diffusers",
        "av",
        "ray",
    }


def test_public_names_are_listed_typed_and_resolve() -> None:
    listed = set(emu2eval.__all__)
    assert listed == set(dir(emu2eval))
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("emu2eval.")
        for alias in node.names
    }
    assert typed == listed - {"__version__"}
    assert (PACKAGE / "py.typed").is_file()
    for name in listed:
        assert getattr(emu2eval, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = emu2eval.nothing
