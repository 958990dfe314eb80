"""Names: invented ones, "daku" and the like, for tasks in which only demonstrations say what a name
means; and those of samples whose id stands in a published file more than once."""

from __future__ import annotations

REPEAT = "#"


def occurrence(sample_id: str, number: int) -> str:
    """The name of the sample that has the id for the number-th time in its file, counted from 1.

    >>> occurrence("49914", 1), occurrence("49914", 2)
    ('49914', '49914#2')
    """
    return sample_id if number == 1 else f"{sample_id}{REPEAT}{number}"


SYLLABLES = tuple(c + v for c in "dfgklmpstvz" for v in "aiu")


def names(*, kept: bool) -> list[str]:
    """Names of two different syllables, in a fixed order. kept: those kept for tests, a fifth of all.

    emu2-nano is never trained on a kept name, but on each of its syllables in each place.
    """
    count = len(SYLLABLES)
    return [
        SYLLABLES[i] + SYLLABLES[j]
        for i in range(count)
        for j in range(count)
        if i != j and ((i + 2 * j) % 5 == 0) == kept
    ]
