"""Caption metrics, equal to pycocoevalcap's: CIDEr, BLEU-1..4, ROUGE-L, METEOR and SPICE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal

from msgspec import Meta

from emu2eval.errors import ConfigError, UserError, raise_together
from emu2eval.scorers import caption_java as programs
from emu2eval.scorers import caption_stats as stats
from emu2eval.scorers.base import Scorer, Summary, text_of, texts, unreferenced
from emu2eval.statistics.bootstrap import BootstrapOfSums
from emu2eval.statistics.estimates import Accumulator, ClusteredMean
from emu2eval.types import Progress, Response, Sample, Score

Caption = tuple[str, str]
"""The id of a sample and a caption of its image, in tokens."""
References = Mapping[str, Sequence[str]]
Judged = tuple[Mapping[str, float], Sequence[float]]
"""What one metric says of one caption: its numbers, and what is added up over a set where they are made
of sums."""

Metric = Literal["cider", "bleu", "rouge_l", "meteor", "spice"]

METRICS: Mapping[Metric, tuple[str, ...]] = {
    "cider": ("CIDEr",),
    "bleu": ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"),
    "rouge_l": ("ROUGE-L",),
    "meteor": ("METEOR",),
    "spice": ("SPICE",),
}
"""What `metrics` may name, in the order of the table, and the numbers that each gives."""

_tokens: dict[str, str] = {}
"""Captions tokenized in this process: runs of several models share their references."""


class Captions(Scorer):
    """CIDEr-D and other caption metrics over all answers, and over each group separately.

    metrics: which metrics. The first is the score's value, on its own scale; the others are in its details
    (CIDEr 0..10, else 0..1). Tables show a hundred times that, as papers do.

    CIDEr weighs words by how many of the images given they describe: its scale depends on the set, a
    subset's value is not comparable with the whole set's, which is not the mean of its groups' values
    either; a single image has no value. Its error takes these weights as fixed. BLEU and METEOR are computed
    from sums over the set, and their errors by bootstrap.
    Several trials share one set: each image counts once in CIDEr's weights, each caption in the sums.
    """

    def __init__(self, metrics: Annotated[Sequence[Metric], Meta(min_length=1)] = tuple(METRICS)):
        self.wanted = [name for name in METRICS if name in metrics]
        self.metric = METRICS[self.wanted[0]][0]
        self.references: dict[str, tuple[str, ...]] = {}
        self.values: dict[Caption, dict[str, float]] = {}
        self.sums: dict[str, dict[Caption, Sequence[float]]] = {}

    def lacks(self) -> list[UserError]:
        found: list[UserError] = []
        for needed in (programs.package, programs.java):
            try:
                needed()
            except UserError as error:
                found.append(error)
        if not found and self.wanted == ["spice"] and self.notes():
            found.append(ConfigError(*self.notes(), hint="use it together with other metrics"))
        return found

    def notes(self) -> tuple[str, ...]:
        missing = programs.no_spice() if "spice" in self.wanted else None
        return (missing,) if missing else ()

    def prepare(
        self, answered: Iterable[tuple[Sample, Response]], progress: Progress | None = None
    ) -> None:
        raise_together(self.lacks())
        given = [
            (sample.id, text_of(response), texts(sample.references, sample.id))
            for sample, response in answered
            if sample.references
        ]
        _tokenize(text for _, caption, references in given for text in (caption, *references))
        self.references = {
            name: tuple(_tokens[reference] for reference in references)
            for name, _, references in given
        }
        self.values = {(name, _tokens[caption]): {} for name, caption, _ in given}
        captions = list(self.values)
        for metric in self._computed():
            judged = dict(zip(captions, _JUDGES[metric](captions, self.references), strict=True))
            self.sums[metric] = {caption: sums for caption, (_, sums) in judged.items()}
            for caption, (values, _) in judged.items():
                self.values[caption].update(values)

    def score(self, sample: Sample, response: Response) -> Score:
        if not sample.references:
            return unreferenced()
        caption = _tokens[text_of(response)]
        values = self.values[sample.id, caption]
        others = {name: value for name, value in values.items() if name != self.metric}
        return Score(values.get(self.metric), caption, others)

    def summaries(self) -> tuple[Summary, ...]:
        labels = [label for metric in self._computed() for label in METRICS[metric]]
        return tuple(
            Summary(label, self._accumulator(label), set_scaled=label == "CIDEr")
            for label in labels
        )

    def _computed(self) -> list[Metric]:
        return [name for name in self.wanted if name != "spice" or not self.notes()]

    def _accumulator(self, label: str) -> Accumulator:
        if label == "CIDEr":
            return _Cider(self)
        if label == "METEOR":
            return BootstrapOfSums(partial(self._summands, "meteor"), stats.meteor, 100.0)
        if label.startswith("BLEU"):
            formula = partial(stats.bleu, n=int(label[-1]))
            return BootstrapOfSums(partial(self._summands, "bleu"), formula, 100.0)
        return ClusteredMean(100.0, of=None if label == self.metric else label)

    def _summands(self, metric: str, sample: Sample, score: Score) -> Sequence[float]:
        return self.sums[metric][sample.id, score.prediction or ""]


class _Cider(Accumulator):
    """The mean CIDEr of a set of captions, with the word frequencies of that very set."""

    def __init__(self, scorer: Captions):
        self.scorer = scorer
        self.captions: list[Caption] = []
        self.clusters: list[str | None] = []

    def add(self, sample: Sample, score: Score) -> None:
        self.captions.append((sample.id, score.prediction or ""))
        self.clusters.append(sample.cluster)

    def result(self) -> tuple[float | None, float | None]:
        if self.undefined() is not None:
            return None, None
        mean = ClusteredMean(100.0)
        for caption, cluster, value in zip(
            self.captions, self.clusters, self._values(), strict=True
        ):
            mean.add(Sample(caption[0], cluster=cluster), Score(value))
        return mean.result()

    def undefined(self) -> str | None:
        """Of one image every word's weight, the logarithm of 1 over 1, is zero: a perfect caption gets 0."""
        if len({name for name, _ in self.captions}) != 1:
            return None
        return "it weights words by how many images they occur for, which needs more than one image"

    def _values(self) -> list[float]:
        if len({name for name, _ in self.captions}) == len(self.scorer.references):
            # All images: the scores were made with these frequencies.
            return [self.scorer.values[caption]["CIDEr"] for caption in self.captions]
        return stats.cider(self.captions, self.scorer.references)


def _tokenize(captions: Iterable[str]) -> None:
    new = [caption for caption in dict.fromkeys(captions) if caption not in _tokens]
    _tokens.update(zip(new, programs.tokenize(new), strict=True))


def _cider(captions: Sequence[Caption], references: References) -> Iterator[Judged]:
    for value in stats.cider(captions, references):
        yield {"CIDEr": value}, ()


def _bleu(captions: Sequence[Caption], references: References) -> Iterator[Judged]:
    for name, caption in captions:
        sums = stats.bleu_statistics(caption, references[name])
        yield (
            {label: float(stats.bleu(sums, n)) for n, label in enumerate(METRICS["bleu"], 1)},
            sums,
        )


def _rouge_l(captions: Sequence[Caption], references: References) -> Iterator[Judged]:
    from pycocoevalcap.rouge.rouge import Rouge

    for name, caption in captions:
        yield {"ROUGE-L": float(Rouge().calc_score([caption], references[name]))}, ()


def _meteor(captions: Sequence[Caption], references: References) -> Iterator[Judged]:
    for found in programs.meteor([(caption, references[name]) for name, caption in captions]):
        sums = stats.meteor_sums(found)
        yield {"METEOR": float(stats.meteor(sums))}, sums


def _spice(captions: Sequence[Caption], references: References) -> Iterator[Judged]:
    keys = [f"{number:09d}" for number in range(len(captions))]
    found = programs.spice(
        {key: caption for key, (_, caption) in zip(keys, captions, strict=True)},
        {key: references[name] for key, (name, _) in zip(keys, captions, strict=True)},
    )
    for key in keys:
        yield ({"SPICE": found[key]} if key in found else {}), ()


_JUDGES: Mapping[str, Callable[[Sequence[Caption], References], Iterator[Judged]]] = {
    "cider": _cider,
    "bleu": _bleu,
    "rouge_l": _rouge_l,
    "meteor": _meteor,
    "spice": _spice,
}
