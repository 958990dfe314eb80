"""What a scorer is: one response -> one Score; many scores -> one number with its standard error."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from emu2eval.errors import UserError
from emu2eval.statistics.estimates import Accumulator, ClusteredMean
from emu2eval.types import Image, Progress, Response, Sample, Score, metric_label


class ScoringError(UserError):
    """The data lacks what the scorer needs."""


@dataclass(frozen=True)
class Summary:
    """One number of a table: its name, and what computes it from the scores.

    metric: such as "vqa_accuracy"; variant: the rule, wording or encoder that it was made with, such as
    "official"; None if there is only one.
    set_scaled: its scale depends on the set of samples, as CIDEr's does, and the table says so.
    digits: how many a table shows after the decimal point.
    judged: of a scorer that asks a judge, whether this number is made of what the judge said.
    whole: a number of all samples together, which sub-scores have no use for.
    """

    metric: str
    accumulator: Accumulator
    variant: str | None = None
    higher_is_better: bool = True
    set_scaled: bool = False
    judged: bool = True
    digits: int = 2
    whole: bool = False

    @property
    def label(self) -> str:
        """Both names as one: `vqa_accuracy/official`."""
        return metric_label(self.metric, self.variant)


class Scorer(ABC):
    """To write a scorer, subclass this and write `score`; the default summary is the mean over samples.

    metric: its name in tables; scale: what a value of 1 is shown as (100 = percent).
    outputs: the kinds of output that it can score. The constructor reads only local configuration: no
    weights, no network.
    """

    metric: str
    scale: ClassVar[float] = 100.0
    higher_is_better: ClassVar[bool] = True
    outputs: ClassVar[frozenset[str]] = frozenset({"text"})

    @property
    def variant(self) -> str | None:
        """The rule, wording or encoder of its headline, such as "official"; None = there is only one."""
        return None

    @property
    def label(self) -> str:
        """The headline's whole name: `vqa_accuracy/official`."""
        return metric_label(self.metric, self.variant)

    def lacks(self) -> list[UserError]:
        """What is missing before it can score: extras, programs, weights. Each error says how to get it.

        Judged from this machine alone: nothing is loaded, and the network is not used. Called before a model
        is asked anything.
        """
        return []

    def fetch(self) -> None:
        """Downloads what `lacks` reports, as far as possible. Raises UserError where that fails."""

    def try_out(self) -> None:
        """Tries whatever needs weights on something small, before a model spends hours on answers.

        Raises UserError if it fails.
        """

    @abstractmethod
    def score(self, sample: Sample, response: Response) -> Score:
        """The score of a response that is not an error. `Score(None, why=…)` if it cannot be scored."""

    def prepare(
        self, answered: Iterable[tuple[Sample, Response]], progress: Progress | None = None
    ) -> None:
        """Called once, before `score`, with everything that will be scored: for scores that depend on
        the whole set, and for lengthy work, which reports to `progress`.
        """

    def notes(self) -> tuple[str, ...]:
        """What a reader of the table needs to know, such as why a number is missing."""
        return ()

    def encoders(self) -> Mapping[tuple[str, str | None], str]:
        """(metric, variant) -> `Row.encoder`, of the numbers that have one. Called once all is scored."""
        return {}

    def summaries(self) -> tuple[Summary, ...]:
        """The numbers of the table, the headline first; new objects each time, for the whole and each
        group.

        By default one: the mean of the scores, its error clustered by image.
        """
        mean = ClusteredMean(self.scale)
        return (Summary(self.metric, mean, self.variant, self.higher_is_better),)


class AbsentScorer(Scorer):
    """Placeholder for a stored run's scorer that is not available here: everything but scoring works
    without it.
    """

    metric = "absent"

    def __init__(self, error: UserError):
        self.error = error

    def lacks(self) -> list[UserError]:
        return [self.error]

    def prepare(
        self, answered: Iterable[tuple[Sample, Response]], progress: Progress | None = None
    ) -> None:
        raise self.error

    def score(self, sample: Sample, response: Response) -> Score:
        raise self.error

    def summaries(self) -> tuple[Summary, ...]:
        raise self.error


def text_of(response: Response) -> str:
    """The response's text; raises ScoringError where it is of another kind."""
    if response.text is None:
        raise ScoringError(
            "the scorer needs text, but the responses contain none",
            hint="set `output: {kind: text}` in the task, or use a scorer for its kind of output",
        )
    return response.text


def drawn(response: Response) -> Image:
    """The response's image; raises ScoringError where it is of another kind."""
    if response.image is None:
        raise ScoringError(
            "the scorer needs images, but the responses contain none",
            hint="set `output: {kind: image}` in the task",
        )
    return response.image


def texts(references: tuple[Any, ...], sample_id: str) -> tuple[str, ...]:
    """References that are all texts; raises ScoringError otherwise."""
    for reference in references:
        if not isinstance(reference, str):
            raise ScoringError(f"the references of sample {sample_id!r} are not text")
    return references


def unreferenced(details: Mapping[str, Any] | None = None) -> Score:
    """The score of a sample without references, such as one of a hidden test split: hidden, not unscored."""
    return Score(None, details=details or {}, why="no references", hidden=True)
