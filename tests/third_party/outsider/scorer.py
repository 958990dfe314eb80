"""A scorer: does the box that comes with an image overlap the true one?"""

from typing import Annotated

from msgspec import Meta

from emu2eval import ClusteredMean, Response, Sample, Score, Scorer, Settings, Summary


class OverlapSettings(Settings):
    """at_least: the least overlap, as intersection over union, that is right."""

    at_least: Annotated[float, Meta(gt=0, le=1)] = 0.5


class BoxOverlap(Scorer):
    metric = "box_overlap"
    outputs = frozenset({"boxed", "text"})

    def __init__(self, settings: OverlapSettings):
        self.at_least = settings.at_least

    @property
    def variant(self) -> str:
        return f"{self.at_least:g}"

    def score(self, sample: Sample, response: Response) -> Score:
        mine, true = (
            [int(number) for number in text.split()]
            for text in (response.text or "", str(sample.references[0]))
        )
        if len(mine) != 4:
            return Score(None, why="four numbers make a box")
        width = min(mine[2], true[2]) - max(mine[0], true[0])
        height = min(mine[3], true[3]) - max(mine[1], true[1])
        shared = max(width, 0) * max(height, 0)
        overlap = shared / (_area(mine) + _area(true) - shared)
        return Score(float(overlap >= self.at_least), response.text, {"overlap": overlap})

    def summaries(self) -> tuple[Summary, ...]:
        mean = ClusteredMean(1.0, of="overlap")
        return (*super().summaries(), Summary("mean_overlap", mean, digits=3))


def _area(box: list[int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
