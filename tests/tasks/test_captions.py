"""What is particular about the caption benchmarks, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import quickly

Command = Callable[..., str]


@pytest.fixture
def at(roots: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda task: monkeypatch.setenv("EMU2EVAL_DATA", str(roots(task)))


def test_openflamingos_zero_shows_two_captions_without_images(
    at: Callable[[str], None], command: Command
) -> None:
    at("flickr30k")
    asked = ["show", "--task", "flickr30k", "--protocol", "openflamingo", "--shots", "0*"]
    shown = command(*asked)
    assert shown.count("demonstration ") == 2
    assert shown.count("[image") == 1
    assert shown.count("'Output:'") == 3
    assert "beams=3, length_penalty=0.0, stop=('Output',)" in shown
    assert "as one text: '' before a reply" in shown


def test_nocaps_has_numbers_for_each_domain(at: Callable[[str], None], command: Command) -> None:
    at("nocaps")
    asked = [
        "run",
        "--task",
        "nocaps",
        "--model",
        "nearest",
        "--shots",
        "4",
        "--groups",
        "-f",
        "json",
    ]
    rows = json.loads(command(*asked, *quickly("nocaps")))
    domains = ["in-domain", "near-domain", "out-domain"]
    cider = {row["group"]: row["n"] for row in rows if row["metric"] == "CIDEr"}
    assert cider == {None: 6, **{f"domain: {domain}": 2 for domain in domains}}
    assert len(rows) == 4 * 6
