"""Referring expressions: is the box that the answer names the right one? (RefCOCO, RefCOCO+, RefCOCOg)"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from emu2eval.media import boxes
from emu2eval.media.boxes import BINS, Coordinates, Quantiser
from emu2eval.scorers.base import Scorer, ScoringError, Summary, text_of, texts, unreferenced
from emu2eval.spec.settings import Count
from emu2eval.statistics.estimates import ClusteredMean
from emu2eval.types import Response, Sample, Score


class Grounding(Scorer):
    """1 if the box overlaps the true one with an IoU of at least `iou`, otherwise 0 (Acc@0.5).

    coordinates: how answers write boxes, see `emu2eval.media.boxes`; never guessed from an answer.
    dequantise: the place that a location token stands for, "edge" or "centre" of its bin; bins: how many.
    An answer without a box is wrong, as everywhere; the second summary says how many there are.
    The reference is the true box in pixels; the sample's fields `width` and `height` are the image's.
    iou: the least overlap of a right box.
    """

    def __init__(
        self,
        coordinates: Coordinates = "unit",
        dequantise: Literal["edge", "centre"] = "edge",
        bins: Count = BINS,
        iou: Annotated[float, Meta(gt=0, le=1)] = 0.5,
    ):
        self.coordinates = coordinates
        self.quantiser = Quantiser(dequantise, bins)
        self.threshold = iou
        self.metric = f"grounding_accuracy@{iou:g}"

    @property
    def variant(self) -> str:
        """How answers write boxes."""
        how: str = self.coordinates
        if self.coordinates == "tokens":
            how += f"-{self.quantiser.at}"
            if self.quantiser.bins != BINS:
                how += f"-{self.quantiser.bins}"
        return how

    def score(self, sample: Sample, response: Response) -> Score:
        references = texts(sample.references, sample.id)
        if not references:
            return unreferenced()
        try:
            size = float(sample.fields["width"]), float(sample.fields["height"])
        except (KeyError, ValueError):
            raise ScoringError(
                f"sample {sample.id!r} has no image size",
                hint="add the fields width and height, in pixels",
            ) from None
        truth = boxes.read(references[0], size, "pixels")
        if truth is None:
            raise ScoringError(
                f"the reference of sample {sample.id!r} is {references[0]!r}",
                hint="it must be a box in pixels: [left, top, right, bottom]",
            )
        box = boxes.read(text_of(response), size, self.coordinates, self.quantiser)
        if box is None:
            return Score(0.0, None, {"unparsable": 1.0})
        overlap = boxes.iou(box, truth)
        shown = ", ".join(f"{c:.1f}" for c in box)
        return Score(
            float(overlap >= self.threshold), f"[{shown}]", {"iou": overlap, "unparsable": 0.0}
        )

    def summaries(self) -> tuple[Summary, ...]:
        share = ClusteredMean(100.0, of="unparsable")
        return (*super().summaries(), Summary("unparsable", share, higher_is_better=False))
