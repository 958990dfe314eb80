"""Is a split complete? Counts and fields against the official ones, and whether every image exists."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from emu2eval.data.absent import lost
from emu2eval.data.samples import Samples
from emu2eval.errors import UserError
from emu2eval.media import images
from emu2eval.spec.data import Expected
from emu2eval.types import Image, Sample, Video


@dataclass(frozen=True)
class SplitSurvey:
    """What a walk over a split found. faults: how many samples have each, and the first of them."""

    samples: int
    images: dict[str, Image]
    fields: Counter[str]
    references: Counter[int]
    groups: dict[str, Counter[str]]
    faults: dict[str, tuple[int, str]]


def walk(samples: Samples) -> SplitSurvey:
    """One pass over the split. images: each once, by the name of its file and place in it."""
    shown: dict[str, Image] = {}
    fields: Counter[str] = Counter()
    references: Counter[int] = Counter()
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    faults: dict[str, tuple[int, str]] = {}

    def fault(what: str, sample: Sample) -> None:
        count, first = faults.get(what, (0, sample.id))
        faults[what] = (count + 1, first)

    for sample in samples:
        if sample.unreadable is not None:
            fault("cannot be read", sample)
            continue
        fields.update(sample.fields.keys())
        references[len(sample.references)] += 1
        for name, label in sample.groups.items():
            groups[name].update((label,) if isinstance(label, str) else label)
        for name, text in sample.fields.items():
            if not text.strip() and name in ("question", "text"):
                fault(f"have an empty {name}", sample)
        for image in _flat((*sample.images, sample.answer, *sample.references)):
            shown.setdefault(images.where(image), image)
    if 0 in references and len(references) > 1:
        for sample in samples:
            if not sample.references and sample.unreadable is None:
                fault("have no reference, although others do", sample)
    return SplitSurvey(len(samples), shown, fields, references, dict(groups), faults)


def counts(seen: SplitSurvey, official: Expected | None) -> Iterator[tuple[str, bool, str]]:
    """(what, as it should be, what was found) of the sizes; without official ones all is well."""
    yield _count("samples", seen.samples, official.samples if official else None)
    if seen.images:
        # A reader that keeps a copy of the image in each row cannot tell how many differ.
        inner = any(image.member is not None for image in seen.images.values())
        wanted = official.images if official and not inner else None
        yield _count("images", len(seen.images), wanted)


def _count(what: str, found: int, official: int | None) -> tuple[str, bool, str]:
    if official is None:
        return what, True, f"{found:,}"
    if found == official:
        return what, True, f"{found:,}, as in the official files"
    return what, False, f"{found:,}, but {official:,} officially"


def missing(shown: Iterable[Image]) -> list[str]:
    """The paths of images that do not exist."""
    return lost(image.path for image in shown if image.path is not None)


def broken(
    shown: Sequence[Image], progress: Callable[[int], None], threads: int = 4
) -> list[UserError]:
    """Decodes every image; the errors of those that cannot be used, in order.

    progress: called with how many are done.
    """
    errors: list[UserError] = []
    with ThreadPoolExecutor(threads) as pool:
        for number, error in enumerate(pool.map(_decode, shown), 1):
            if error is not None:
                errors.append(error)
            progress(number)
    return errors


def _decode(image: Image) -> UserError | None:
    try:
        images.load(image)
    except UserError as error:
        return error
    return None


def _flat(parts: Iterable[Any]) -> Iterator[Image]:
    for each in parts:
        if isinstance(each, Video):
            yield from each.frames
        elif isinstance(each, Image):
            yield each
