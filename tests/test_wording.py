"""Messages use plain English: no phrase that a native reader would stumble over comes back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "emu2eval"
STILTED = {
    r"(?<!there )\bis no (?!longer|\{)": "is not a",
    "are none of ": "are not among",
    "holds no ": "has no, contains no",
    "holds neither": "contains neither",
    "stands twice": "appears twice",
    "told apart": "distinguished",
    r"\bmend\b": "fix",
    "beside the": "next to the",
    r"\bwants an? ": "needs a, requires a",
    "is wanted": "is expected",
    "goes by ": "is given as",
    "so far is kept": "so far are saved",
    "same command continues": "run the same command again to continue",
    "same command goes on": "run the same command again to continue",
    "as it is told": "as given",
    "in place of whatever": "instead of",
    "likeliest ": "most likely",
    "twice over": "twice",
    "things are in the way": "problems",
    "beyond chance": "significantly",
    "leaves the data folder": "is outside the data folder",
    "not what it should be": "unexpected content",
    "may not be given": "not available",
}
"""Pattern of a phrase -> what to write instead."""
_MESSAGE = re.compile(rf"(?<!\")f?\"(?!\"\")[^\"\n]*({'|'.join(STILTED)})[^\"\n]*\"", re.M)


def found(text: str) -> list[str]:
    """The phrases inside strings that stand on one line; docstrings and comments are not messages."""
    lines = (line.strip() for line in text.splitlines())
    said = (line for line in lines if not line.startswith(('"""', "#")))
    return [hit[1] for line in said for hit in [_MESSAGE.search(line)] if hit]


def _instead(phrase: str) -> str:
    return next(better for stilted, better in STILTED.items() if re.search(stilted, phrase))


@pytest.mark.parametrize("part", sorted(p.name for p in PACKAGE.iterdir() if p.name[0] != "_"))
def test_messages_are_in_plain_english(part: str) -> None:
    place = PACKAGE / part
    files = [place] if place.suffix == ".py" else place.rglob("*.py")
    wrong = {
        f"{file.relative_to(PACKAGE)}: {phrase!r}": _instead(phrase)
        for file in files
        for phrase in found(file.read_text(encoding="utf-8"))
    }
    assert not wrong, "write instead: " + "; ".join(f"{k} -> {v}" for k, v in wrong.items())


def test_a_phrase_is_found() -> None:
    assert found('raise X(f"{a} is no name", hint="b")\n"""It is no message."""') == ["is no "]
