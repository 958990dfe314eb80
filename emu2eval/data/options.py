"""What readers of multiple-choice benchmarks share: options as lettered lines."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase

from emu2eval.errors import DataError


def option_fields(options: Sequence[str]) -> dict[str, str]:
    """The options as templates use them, one a line: `options` and `options_in_brackets`.

    >>> option_fields(["cat", "dog"])
    {'options': 'A. cat\\nB. dog', 'options_in_brackets': '(A) cat\\n(B) dog'}
    """
    named = list(zip(ascii_uppercase, options, strict=False))
    return {
        "options": "\n".join(f"{letter}. {option}" for letter, option in named),
        "options_in_brackets": "\n".join(f"({letter}) {option}" for letter, option in named),
    }


def check_letter(letter: str, options: Sequence[str], *, where: str) -> str:
    """The letter of the right option; raises DataError where there is no such option."""
    if letter not in tuple(ascii_uppercase[: len(options)]):
        raise DataError(
            f"the answer is {letter!r}, but there are {len(options)} options", where=where
        )
    return letter
