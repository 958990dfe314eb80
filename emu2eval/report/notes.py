"""Notes that a reader of a number should see, written from a row's fields, all in this file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from emu2eval.types import AnswerSource, Mark, Row, Shots

Marked = Sequence[tuple[Mark, int]]
"""The marks of one kind on a run's answers, each with the number of answers that carry it."""


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "prompt"), counted(1200, "query", "queries")
    ('1 prompt', '1,200 queries')
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def _server(marks: Marked) -> Iterator[str]:
    # One server is as it should be; which one it was stands with each answer.
    if len(marks) > 1:
        yield f"the server changed its model: {', '.join(str(mark.value) for mark, _ in marks)}"


def _tiles(marks: Marked) -> Iterator[str]:
    yield "the demonstrations' images were shown as tiles of one image"


def _images_moved(marks: Marked) -> Iterator[str]:
    yield (
        f"in {counted(_total(marks), 'prompt')} the model's chat template moved images to a different "
        "position in the text"
    )


def _unmet(marks: Marked) -> Iterator[str]:
    for mark, count in marks:
        yield f"{counted(count, 'answer')} without the task's {mark.value}"


def _first_token(marks: Marked) -> Iterator[str]:
    yield f"{counted(_total(marks), 'answer')} ranked by only the first token of each choice"


def _flagged(marks: Marked) -> Iterator[str]:
    yield f"{counted(_total(marks), 'image')} blacked out by the safety checker"


def _first(marks: Marked) -> Iterator[str]:
    yield f"{counted(_total(marks), 'answer')} determined by the model's reply to the task's first question"


def _unreadable(marks: Marked) -> Iterator[str]:
    yield f"{counted(_total(marks), 'sample')} in the data could not be read"


def _drawn(marks: Marked) -> Iterator[str]:
    yield f"{counted(_total(marks), 'answer')} sampled at random rather than the most likely"


def _total(marks: Marked) -> int:
    return sum(count for _, count in marks)


SENTENCES: Mapping[str, Callable[[Marked], Iterator[str]]] = MappingProxyType(
    {
        "server": _server,
        "tiles": _tiles,
        "images_moved": _images_moved,
        "unmet": _unmet,
        "first_token": _first_token,
        "flagged": _flagged,
        "unreadable": _unreadable,
        "first": _first,
        "drawn": _drawn,
    }
)
"""Kind of mark -> what a table says of all marks of that kind."""


def _generic(marks: Marked) -> Iterator[str]:
    """Of a kind that only a plug-in knows."""
    for mark, count in marks:
        value = "" if mark.value is None else f" {mark.value}"
        yield f"{counted(count, 'answer')} marked {mark.kind}{value}"


def of_marks(marks: Iterable[tuple[Mark, int]]) -> Iterator[str]:
    """The sentences about the marks of a run's answers, kind by kind."""
    kinds: dict[str, list[tuple[Mark, int]]] = {}
    for mark, count in marks:
        kinds.setdefault(mark.kind, []).append((mark, count))
    for kind, own in kinds.items():
        yield from SENTENCES.get(kind, _generic)(own)


def notes(row: Row) -> tuple[str, ...]:
    """Everything that a table says beside a number, what the scorer says of it included."""
    return tuple(_notes(row))


def _notes(row: Row) -> Iterator[str]:
    if row.source is not None:
        yield f"imported from {row.source.origin}, shots {_known(row.source, row.shots)}"
        yield f"scored as {row.protocol}"
    if row.changes:
        yield f"changed settings: {', '.join(row.changes)}"
    if not row.complete:
        yield subset(row)
    if row.missing:
        yield f"{counted(row.missing, 'query', 'queries')} skipped: image or video file missing"
    if row.missing_examples:
        yield f"{counted(row.missing_examples, 'demonstration')} skipped: image or video file missing"
    if row.size is not None:
        yield f"this copy of the split has {row.size.here:,} samples, the official one {row.size.official:,}"
    for role, source in row.sources.items():
        yield f"{role} from the {source}"
    if row.hidden and row.server:
        hidden = counted(row.hidden, "answer is hidden", "answers are hidden")
        yield f"{hidden}; to write the test server's file: emu2eval submit {row.run}"
    elif row.hidden:
        yield f"{counted(row.hidden, 'answer is', 'answers are')} hidden (no public references)"
    if row.shortened:
        yield f"{counted(row.shortened, 'prompt')} shortened to fit"
    yield from of_marks(row.marks)
    yield from row.notes
    if row.set_scaled:
        yield "the scale depends on the set of samples"


def explanations(rows: Iterable[Row]) -> Iterator[str]:
    """What makes people wonder about some of the rows, each once."""
    shown = list(rows)
    if any(row.value in (0, 100) and row.stderr for row in shown):
        yield (
            "± next to 0 or 100: all scores are equal; the error shows how far off the true value may still "
            "be with so few independent images (clusters)"
        )
    if any(row.chance is not None for row in shown):
        yield "chance: the score of random guessing, from the task file"


def _known(source: AnswerSource, shots: Shots) -> str:
    """How the number of shots is known."""
    if not source.told:
        return "from its log"
    differ = source.logged is not None and source.logged != shots.count
    return f"as given (the log says {source.logged})" if differ else "as given"


def subset(row: Row) -> str:
    """How many of the split's queries were asked about."""
    return f"{row.covered:,} of {row.queries:,} queries"
