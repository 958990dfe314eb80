"""Invented names, "daku" and the like, for tasks in which only demonstrations say what a name means."""

from __future__ import annotations

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
