"""Boxes as texts: what demonstrations show and answers say, in the ways that models write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Box = tuple[float, float, float, float]
"""Left, top, right and bottom; pixels of the image unless something else is said."""
Size = tuple[float, float]
"""Width and height in pixels."""

Coordinates = Literal["tokens", "unit", "percent", "thousand", "pixels"]
"""tokens: Emu2's location tokens; unit, percent, thousand: parts of width and height, 0 to 1, 100, 1000."""
COORDINATES: tuple[Coordinates, ...] = get_args(Coordinates)

BINS = 224
"""Emu2's tokens count places from 0 to 224, both included, along each side (arXiv 2312.13286)."""

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
# Four numbers with nothing but white space, commas, semicolons and brackets between them, so that a
# number of the text before ("2 dogs at [...]") is not taken for a coordinate.
_FOUR_NUMBERS = re.compile(
    rf"(?<![\w.])({_NUMBER})" + rf"[\s,;()\[\]]+({_NUMBER})" * 3 + r"(?!\w|\.\d)"
)
# <locNNN> in the paper, <patch_index_NNNN> in the released vocabulary.
_TOKEN = r"<(?:loc|patch_index_)(\d{1,4})>"
_FOUR_TOKENS = re.compile(r"\s*".join([_TOKEN] * 4))

_SPANS: Mapping[Coordinates, float] = {"unit": 1, "percent": 100, "thousand": 1000}
_DIGITS: Mapping[Coordinates, int] = {"unit": 3, "percent": 0, "thousand": 0, "pixels": 0}


@dataclass(frozen=True, slots=True)
class Quantiser:
    """Emu2's tokens as places. at: "edge", token n is n/224 of the side, as it is where places were
    rounded; or "centre", (n + 1/2)/224, as it is where they were cut off. The paper does not say which.

    >>> Quantiser("edge").place(56), Quantiser("centre").place(56)
    (0.25, 0.25223214285714285)
    """

    at: Literal["edge", "centre"] = "edge"
    bins: int = BINS

    def place(self, token: int) -> float | None:
        """The part of the side, 0 to 1; None where no such token counts a place."""
        if not 0 <= token <= self.bins:
            return None
        return min(1.0, (token + (0.5 if self.at == "centre" else 0.0)) / self.bins)

    def token(self, place: float) -> int:
        """The token of a part of the side; places beyond the image become its edge."""
        bounded = min(1.0, max(0.0, place)) * self.bins
        return round(bounded) if self.at == "edge" else min(self.bins - 1, int(bounded))


def upright(box: Box, size: Size, orientation: int) -> Box:
    """A box in the pixels of an image as stored, in those of the image as it is shown.

    size: as stored; orientation: EXIF's.

    >>> upright((10, 20, 60, 80), (100, 90), 6)  # turned by a quarter to the right
    (10, 10, 70, 60)
    """
    left, top, right, bottom = box
    width, height = size
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return (left, top, right, bottom) if orientation < 5 else (top, left, bottom, right)


def write(
    box: Box, size: Size, coordinates: Coordinates, quantiser: Quantiser | None = None
) -> str:
    """The box as a text: four location tokens, or "[left, top, right, bottom]".

    >>> write((10, 20, 60, 80), (100, 80), "unit"), write((10, 20, 60, 80), (100, 80), "tokens")
    ('[0.1, 0.25, 0.6, 1.0]', '<patch_index_0022><patch_index_0056><patch_index_0134><patch_index_0224>')
    """
    sides = (*size, *size)
    if coordinates == "tokens":
        token = (quantiser or Quantiser()).token
        return "".join(
            f"<patch_index_{token(c / side):04d}>" for c, side in zip(box, sides, strict=True)
        )
    span = _SPANS.get(coordinates)
    scaled = box if span is None else [c / side * span for c, side in zip(box, sides, strict=True)]
    digits = _DIGITS[coordinates]
    return f"[{', '.join(str(round(c, digits) if digits else round(c)) for c in scaled)}]"


def read(
    text: str, size: Size, coordinates: Coordinates, quantiser: Quantiser | None = None
) -> Box | None:
    """The first box of a text in pixels; None where there is none of this kind.

    Nothing is guessed: numbers are taken as `coordinates` says, whatever their size, and corners in the
    order left, top, right, bottom.

    >>> read("It is at (12, 20), (50, 100).", (200, 100), "percent")
    (24.0, 20.0, 100.0, 100.0)
    """
    found = (_FOUR_TOKENS if coordinates == "tokens" else _FOUR_NUMBERS).search(text)
    if found is None:
        return None
    numbers = [float(group) for group in found.groups()]
    if coordinates == "tokens":
        places = [(quantiser or Quantiser()).place(int(n)) for n in numbers]
    elif coordinates == "pixels":
        places, size = list(numbers), (1, 1)
    else:
        places = [n / _SPANS[coordinates] for n in numbers]
    left, top, right, bottom = places
    if left is None or top is None or right is None or bottom is None:
        return None
    width, height = size
    return left * width, top * height, right * width, bottom * height


def iou(a: Box, b: Box) -> float:
    """Intersection over union, areas without the extra pixel that some codes count.

    A box whose corners stand in the wrong order has no area.

    >>> iou((0, 0, 10, 10), (5, 0, 15, 10))
    0.3333333333333333
    """
    shared = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = _area(a) + _area(b) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
