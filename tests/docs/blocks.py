"""The fenced blocks of a page, and what is said about each in a comment above it.

`<!-- not run: REASON -->` above a block: it is only checked, since it needs weights, data or a network.
`<!-- exit: 3 -->`: its commands end with this code. `<!-- example: REASON -->`: nobody's output.
`<!-- varies: REASON -->`: an output whose numbers are others on another machine; all but them is compared.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w*)(?P<rest>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"<!-- (not run|exit|example|varies): ([^>]*?) -->\s*\Z")
_NAMED = re.compile(r"# ([\w./-]+\.\w+)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """kind: the language; name: of the file that it is, from `title="…"` or a first line `# name.py`."""

    page: str
    line: int
    kind: str
    name: str | None
    text: str
    said: str = ""
    about: str = ""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Every page that people read, relative to the repository; those that are generated are not there."""
    found = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"), ROOT / "README.md"]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def blocks(page: str) -> Iterator[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        indent = len(found["indent"])
        lines = [line[indent:] for line in found["text"].splitlines(keepends=True)]
        inner = "".join(lines)
        titled = re.search(r'title="([^"]+)"', found["rest"])
        first = _NAMED.match(inner)
        name = titled[1] if titled else first[1] if first else None
        comment = _COMMENT.search(text[: found.start()].rstrip())
        said, about = (comment[1], comment[2].strip()) if comment else ("", "")
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found["kind"], name, inner, said, about)


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a console block: what is set for it alone, and its words."""

    set: dict[str, str]
    words: list[str]


def commands(text: str) -> Iterator[Command]:
    """Lines that end with a backslash go on; comments are left out."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        own: dict[str, str] = {}
        while words and (found := re.fullmatch(r"([A-Z_]+)=(.*)", words[0])):
            own[found[1]] = found[2]
            words.pop(0)
        if words:
            yield Command(own, words)


def shown_in(expected: str, printed: str) -> bool:
    """Whether the lines are there, one after the other; `…` is what a page leaves out, alone any lines."""
    parts = []
    for line in expected.rstrip().splitlines():
        if line.strip() == "…":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            inner = r"[^\n]*?".join(re.escape(part) for part in line.rstrip().split("…"))
            parts.append(rf"{inner}[ \t]*\n")
    return re.search("^" + "".join(parts), printed.rstrip() + "\n", re.MULTILINE) is not None


def varied(text: str) -> str:
    """The text with `#` for every number, and one space or rule in the place of several."""
    text = re.sub(r"\d+(?:[.,]\d+)*", "#", text)
    return re.sub(r"([ ━─])\1+", r"\1", text)
