"""What is told of a row that is not what it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from emu2eval.errors import DataError
from emu2eval.types import Sample


def told(read: Callable[[], Iterable[Sample]]) -> str:
    """With its place: by the one sample that cannot be asked, or where the whole file is refused."""
    try:
        lost = [sample.unreadable for sample in read() if sample.unreadable is not None]
    except DataError as error:
        return f"{error.what} ({error.where})"
    (why,) = lost
    return why
