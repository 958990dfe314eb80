"""Drawings scored by geometry alone, without any model: was a red circle drawn?

Written for easy-VQA's images: one shape in one colour on a plain light background.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emu2eval.media import images
from emu2eval.scorers.base import ScoringError, Summary, drawn, texts, unreferenced
from emu2eval.scorers.judged import JudgedScorer, Shown, Wording
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Response, Sample, Score

if TYPE_CHECKING:
    from PIL.Image import Image

Grid = NDArray[np.float64]

COLOURS = {
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "brown": (165, 42, 42),
    "gray": (128, 128, 128),
    "green": (0, 255, 0),
    "red": (255, 0, 0),
    "teal": (0, 128, 128),
    "yellow": (255, 255, 0),
}
"""The colours of easy-VQA as its images show them (RGB)."""
SHAPES = ("circle", "rectangle", "triangle")
QUESTIONS = {"colour": "what color is the shape?", "shape": "what shape is in the image?"}
"""What a judge is asked about a drawing, in easy-VQA's words."""

FAINTEST = 40.0
"""RGB distance from the background below which nothing is seen; yellow on ivory is 230 apart."""
WORST_FIT = 0.3
"""Most of a shape's area that may differ from its ideal outline; of the real images none does by 0.2."""
_FINE = 8  # parts of a pixel's side by which ideal outlines are drawn


@dataclass(frozen=True, slots=True)
class Seen:
    """What an image shows; None where that is unclear. fit: differing area, as a part of the shape's."""

    colour: str | None = None
    shape: str | None = None
    fit: float | None = None

    @property
    def name(self) -> str:
        return f"{self.colour or 'no colour'} {self.shape or 'no shape'}"


def look(image: Image) -> Seen:
    """Colour and shape of the one thing in an image.

    The colour is the named one nearest to the middle colour of what stands out from the background.
    The shape is the one whose ideal outline, drawn into the same box, covers it best.

    >>> from PIL import Image, ImageDraw
    >>> image = Image.new("RGB", (64, 64), "ivory")
    >>> ImageDraw.Draw(image).polygon([(30, 10), (10, 44), (50, 44)], fill="teal")
    >>> look(image).name
    'teal triangle'
    """
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(edge, axis=0)
    distance = np.linalg.norm(pixels - background, axis=-1)
    if distance.max() < FAINTEST:
        return Seen()
    # Of soft edges only the inner pixels have the shape's own colour.
    inside = pixels[distance > 0.8 * np.quantile(distance, 0.99)]
    middle = np.median(inside if len(inside) else pixels[distance == distance.max()], axis=0)
    colour = min(COLOURS, key=lambda name: float(np.linalg.norm(middle - COLOURS[name])))
    towards = middle - background
    covered = np.clip((pixels - background) @ towards / (towards @ towards), 0, 1)
    shape, fit = _shape(covered)
    return Seen(colour, shape, fit)


def _shape(covered: Grid) -> tuple[str | None, float | None]:
    """The best of the shapes for an image of coverages (H, W) from 0 to 1, and how far it is off."""
    area = covered.sum()
    rows, columns = _extent(covered.max(1)), _extent(covered.max(0))
    if rows is None or columns is None or area < 4:
        return None, None
    off = {
        shape: float(np.abs(covered - _ideal(shape, covered.shape, rows, columns)).sum() / area)
        for shape in SHAPES
    }
    best = min(off, key=lambda shape: off[shape])
    return (best if off[best] <= WORST_FIT else None), round(off[best], 4)


def _extent(profile: Grid) -> tuple[float, float] | None:
    """From where to where a profile of coverages reaches, to parts of a pixel."""
    full = np.nonzero(profile > 0.5)[0]
    if not len(full):
        return None
    first, last = int(full[0]), int(full[-1])
    before = profile[first - 1] if first else 0.0
    after = profile[last + 1] if last + 1 < len(profile) else 0.0
    return (
        first + (1 - profile[first]) - before,
        last + profile[last] + after,
    )


def _ideal(
    shape: str, size: tuple[int, ...], rows: tuple[float, float], columns: tuple[float, float]
) -> Grid:
    """Coverages (H, W) of a shape drawn into a box. A circle fills its box, a triangle stands on it."""
    height, width = size
    (top, bottom), (left, right) = rows, columns
    y = (((np.arange(height * _FINE) + 0.5) / _FINE - top) / (bottom - top))[:, None]
    x = (((np.arange(width * _FINE) + 0.5) / _FINE - left) / (right - left))[None, :]
    if shape == "circle":
        inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25
    else:
        inside = (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        if shape == "triangle":
            inside &= np.abs(x - 0.5) <= y / 2
    fine: Any = inside.reshape(height, _FINE, width, _FINE)
    averaged: Grid = fine.mean((1, 3), dtype=np.float64)
    return averaged


class Drawing(JudgedScorer):
    """1 if the image shows the shape in the colour that the reference names, such as "red circle".

    Scored by geometry. A judge, if one is named, is asked about the image as well, and its answers make a
    number of their own: so a model can be asked about its own drawings. details: whether colour and shape
    are right, each for itself; answered: whether both of the judge's answers are.
    """

    metric = "drawn_right"
    outputs = frozenset({"image"})
    optional = True
    names = tuple(QUESTIONS)

    def __init__(self) -> None:
        self.wording = Wording.read("drawing", None, ("image", "question"))

    @property
    def variant(self) -> None:
        """There is one geometry, and one wording for judges."""

    def question(self, sample: Sample, response: Response, name: str) -> Mapping[str, Shown]:
        return {"image": drawn(response), "question": QUESTIONS[name]}

    def read(self, reply: str) -> str:
        """The first word of an answer. No word at all is an answer too, and a wrong one.

        >>> Drawing().read(" Red.")
        'red'
        """
        return next(iter(re.findall("[a-z]+", reply.lower())), "")

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        image = drawn(response)
        if not references:
            return unreferenced()
        words = _wanted(references[0], sample.id)
        seen = look(images.load(image))
        colour, shape = seen.colour == words[0], seen.shape == words[1]
        details = {"colour": colour, "shape": shape, "fit": seen.fit}
        return Score(float(colour and shape), seen.name, details)

    def judged(self, sample: Sample, response: Response, said: Mapping[str, Any]) -> Score:
        score = self.score(sample, response)
        if score.value is None:
            return score
        words = dict(zip(self.names, _wanted(str(sample.references[0]), sample.id), strict=True))
        answered = all(said[name] == words[name] for name in self.names)
        return replace(
            score, details={**score.details, "answered": answered, "answers": dict(said)}
        )

    def summaries(self) -> tuple[Summary, ...]:
        drawn = Summary(self.metric, ClusteredMean(self.scale), judged=False)
        return drawn, Summary("answered_right", ClusteredMean(self.scale, of="answered"))


def _wanted(reference: str, sample_id: str) -> tuple[str, str]:
    words = reference.split()
    if len(words) != 2 or words[0] not in COLOURS or words[1] not in SHAPES:
        raise ScoringError(
            f"the reference of sample {sample_id!r} is {reference!r}",
            hint='it must be a colour and a shape from easy-VQA, such as "red circle"',
        )
    return words[0], words[1]
