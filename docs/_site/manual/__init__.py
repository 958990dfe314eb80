"""The generated part of the reference: pages made of what the code declares, so that they cannot drift.

Each module makes some pages; a page is its path below docs/ and its Markdown. What has no description raises
`Undescribed`, which fails the build: say it in the docstring, as `name: words`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manual import commands, files, models, parts, python, surroundings, tasks

Nav = list[Any]


def pages() -> dict[str, str]:
    """Every generated page by its path below docs/, in the order of the nav."""
    found: dict[str, str] = {}
    for module in (commands, tasks, models, parts, files, python, surroundings):
        for path, text in module.pages():
            if path in found:
                raise ValueError(f"two pages are called {path}")
            found[path] = text
    return found


def nav(made: Mapping[str, str]) -> Nav:
    """The generated pages as sections of the nav."""

    def below(folder: str) -> Nav:
        return [path for path in made if path.startswith(f"reference/{folder}/")]

    return [
        {"Command line": below("cli")},
        {"Tasks": below("tasks")},
        {"Models": ["reference/models.md", "reference/families.md", "reference/papers.md"]},
        {"Parts": below("parts")},
        {"Files": below("files")},
        {"Python": below("python")},
    ]


def blocks() -> Mapping[str, Any]:
    """What stands in a written page in the place of `<!-- generated: NAME -->`: name -> what makes it."""
    return {"families": models.families, "statistics": python.statistics}


def undescribed() -> Iterator[str]:
    """What the reference lists without a word about it; empty in a state that may be committed."""
    for module in (parts, files, python):
        yield from module.undescribed()
