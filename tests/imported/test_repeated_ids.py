"""An id that a benchmark's own file holds twice is matched by its occurrence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from emu2eval.data.samples import Samples
from emu2eval.errors import DataError
from emu2eval.imported.entries import Entry, Log
from emu2eval.imported.matching import match
from emu2eval.types import Response, Sample

SAMPLES = Samples((Sample(name) for name in ("1", "49914", "49914#2")), where="here")


def log(*answers: tuple[object, str], filters: Sequence[str | None] = (None,)) -> Log:
    entries = [
        Entry(
            f"file:{number}",
            {"question_id": name},
            Response(text=f"{text}{each or ''}"),
            filter=each,
        )
        for number, (name, text) in enumerate(answers, 1)
        for each in filters
    ]
    return Log("a file", {}, entries, "text")


def texts(given: Log) -> dict[str, str | None]:
    found = match(given, SAMPLES, None, lambda: SAMPLES.ids)
    return {name: entry.response.text for name, entry in found.entries.items()}


def test_the_second_answer_is_the_second_samples() -> None:
    given = log((1, "A"), (49914, "B"), (49914, "C"))
    assert texts(given) == {"1": "A", "49914": "B", "49914#2": "C"}


def test_names_of_our_own_are_found_as_well() -> None:
    assert texts(log(("49914#2", "C"), (1, "A"))) == {"49914#2": "C", "1": "A"}


def test_another_id_still_has_one_answer() -> None:
    with pytest.raises(DataError, match="two different answers"):
        texts(log((1, "A"), (1, "B"), (49914, "C")))
