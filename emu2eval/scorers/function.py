"""A metric that is a plain function: `(prediction, references) -> float`, or with the sample, too."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np

from emu2eval.errors import ConfigError, origin
from emu2eval.scorers.base import Scorer, Summary, drawn, text_of, unreferenced
from emu2eval.scorers.source import source_digest
from emu2eval.statistics.bootstrap import Array, Bootstrap
from emu2eval.statistics.estimates import ClusteredMean, ValueRange
from emu2eval.types import Image, Response, Sample, Score

Function = TypeVar("Function", bound=Callable[..., Any])

_ATTRIBUTE = "__emu2eval_metric__"
_RATE = (0.0, 1.0)


@dataclass(frozen=True)
class MetricFacts:
    """What `metric` says of a function; see there."""

    name: str | None = None
    range: tuple[float, float] | None = _RATE
    scale: float | None = None
    higher_is_better: bool = True
    corpus: bool = False
    references: bool = True
    digits: int = 2
    draws: int = 200


def metric(
    *,
    name: str | None = None,
    range: tuple[float, float] | None = _RATE,
    scale: float | None = None,
    higher_is_better: bool = True,
    corpus: bool = False,
    references: bool = True,
    digits: int = 2,
    draws: int = 200,
) -> Callable[[Function], Function]:
    """Declares more about a function used as a metric; the function itself is unchanged.

    name: in tables [the function's]. range: the least and the largest value, None = any; what lies outside is
    no score. scale: what 1 is shown as [100, percent, for a range of 0 to 1; else 1]. corpus: the function
    takes all predictions and all lists of references at once; draws: resamples for its error.
    references: False if it does not need any. digits: after the decimal point.
    """
    facts = MetricFacts(
        name, range, scale, higher_is_better, corpus, references, digits, max(draws, 2)
    )

    def marked(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, facts)
        return function

    return marked


@dataclass(frozen=True)
class _Reading:
    """How a function is called. sample: it asks for the sample, by keyword or as the third argument."""

    facts: MetricFacts
    sample: bool
    by_keyword: bool
    options: tuple[inspect.Parameter, ...]


def factory(function: Callable[..., Any]) -> Callable[..., Any]:
    """What makes the scorer of a metric's function, given its options; a function that makes a scorer itself
    stays as it is. Raises ConfigError for one that can be neither.
    """
    how = _read(function)
    if how is None:
        return function

    def make(**options: Any) -> Scorer:
        return FunctionScorer(function, how, options)

    make.__doc__ = function.__doc__
    shown: Any = make
    shown.__signature__ = inspect.Signature(
        [each.replace(kind=each.KEYWORD_ONLY) for each in how.options]
    )
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        hints = {}
    make.__annotations__ = {each.name: hints.get(each.name, Any) for each in how.options}
    return make


def _read(function: Callable[..., Any]) -> _Reading | None:
    facts = getattr(function, _ATTRIBUTE, None)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # written in C, and silent about what it takes
        return _Reading(facts or MetricFacts(), False, False, ())
    places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, _EITHER)]
    needed = [each for each in places if each.default is each.empty]
    first = places[0].name if places else ""
    named = first in ("prediction", "predictions")
    if facts is None and not named and (len(needed) not in (2, 3) or _makes_scorer(function)):
        return None
    facts = facts or MetricFacts(corpus=first == "predictions")
    by_keyword = any(
        each.name == "sample" and each.kind != each.POSITIONAL_ONLY for each in parameters
    )
    third = len(needed) == 3
    if len(places) < 2 or len(needed) > 3 or (facts.corpus and (third or by_keyword)):
        takes = "(predictions, references)" if facts.corpus else "(prediction, references)"
        more = "" if facts.corpus else " or (prediction, references, sample)"
        raise ConfigError(
            f"a metric must accept {takes}{more}, then options with defaults; "
            f"{_name(function)} has the signature {inspect.signature(function)}",
            hint="all further parameters need a default; they become options of the scorer",
        )
    taken = {each.name for each in (*places[:2], *(needed[2:] if third else ()))} | {"sample"}
    options = tuple(
        each
        for each in parameters
        if each.name not in taken and each.kind in (_EITHER, each.KEYWORD_ONLY)
    )
    return _Reading(facts, third or by_keyword, by_keyword, options)


_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _makes_scorer(function: Callable[..., Any]) -> bool:
    said = getattr(function, "__annotations__", {}).get("return")
    return (isinstance(said, type) and issubclass(said, Scorer)) or (
        isinstance(said, str) and said.rpartition(".")[2].endswith("Scorer")
    )


def _name(function: Callable[..., Any]) -> str:
    name = str(getattr(function, "__name__", type(function).__name__))
    return "metric" if name == "<lambda>" else name


class FunctionScorer(Scorer):
    """A function's value for each answer, averaged; or, for a corpus metric, for all answers at once.

    The prediction is the text after clean-up, the likeliest choice, or the `Image` that was drawn. What the
    function raises, and a value that is no number or lies outside its range, makes that answer unscored; the
    table names the first sample. variant: the beginning of the digest of the function's source. Of a corpus
    metric, a sample's own value is what the function gives for that sample alone, 0 where it gives none.
    """

    outputs = frozenset({"text", "choice", "image"})

    def __init__(
        self, function: Callable[..., Any], how: _Reading, options: Mapping[str, Any] | None = None
    ):
        facts = how.facts
        self.function = function
        self.how = how
        self.options = dict(options or {})
        self.metric = facts.name or _name(function)
        rate = facts.range == _RATE
        self.scale = facts.scale if facts.scale is not None else 100.0 if rate else 1.0  # type: ignore[misc]
        self.higher_is_better = facts.higher_is_better  # type: ignore[misc]
        self._failed: list[tuple[str, str]] = []
        self._given: dict[tuple[str, str], tuple[Any, list[Any]]] = {}

    @property
    def variant(self) -> str:
        return source_digest(self.function)[:8]

    def score(self, sample: Sample, response: Response) -> Score:
        if self.how.facts.references and not sample.references:
            return unreferenced()
        prediction = _prediction(sample, response)
        shown = prediction if isinstance(prediction, str) else None
        value, why = self.value(prediction, sample)
        if self.how.facts.corpus:
            return Score(0.0 if value is None else value, shown)
        if value is None:
            self._failed.append((sample.id, why))
            return Score(None, shown, why=f"{self.metric} returned no score: {why}")
        return Score(value, shown)

    def value(self, prediction: Any, sample: Sample) -> tuple[float | None, str]:
        """The function's value for one answer; None with the reason if that is not a score."""
        references = list(sample.references)
        given: tuple[Any, ...] = (prediction, references)
        named = dict(self.options)
        if self.how.facts.corpus:
            given = ([prediction], [references])
        elif self.how.by_keyword:
            named["sample"] = sample
        elif self.how.sample:
            given = (*given, sample)
        return self.checked(lambda: self.function(*given, **named))

    def checked(self, call: Callable[[], Any]) -> tuple[float | None, str]:
        try:
            found = call()
            if isinstance(found, str | bytes) or not hasattr(found, "__float__"):
                return None, f"it returned {type(found).__name__}, not a number"
            value = float(found)
        except Exception as error:
            place = origin(error)
            at = f" ({Path(place).name})" if place else ""
            return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{at}"
        if not math.isfinite(value):
            return None, f"it returned {value}"
        least, most = self.how.facts.range or (-math.inf, math.inf)
        if not least <= value <= most:
            return None, f"it returned {value:g}, outside its range of {least:g} to {most:g}"
        return value, ""

    def notes(self) -> tuple[str, ...]:
        """Of the answers that were scored since they were asked for last: of one run."""
        failed, self._failed = self._failed, []
        if not failed:
            return ()
        (name, why), count = failed[0], len(failed)
        answers = "1 answer" if count == 1 else f"{count:,} answers"
        first = "that" if count == 1 else "the first"
        return (
            f"{self.metric} returned no score for {answers}; {first} of sample {name!r}: {why}",
        )

    def summaries(self) -> tuple[Summary, ...]:
        facts = self.how.facts
        made = (
            CorpusValue(self)
            if facts.corpus
            else ClusteredMean(self.scale, bounded=facts.range == _RATE)
        )
        return (
            Summary(
                self.metric,
                made,
                self.variant,
                self.higher_is_better,
                digits=facts.digits,
            ),
        )


class CorpusValue(Bootstrap):
    """A function's value of all answers together, its error by drawing whole clusters again."""

    def __init__(self, scorer: FunctionScorer):
        super().__init__()
        self.scorer = scorer
        self.draws = scorer.how.facts.draws
        self.predictions: list[Any] = []
        self.references: list[list[Any]] = []
        self.why: str | None = None

    def keep(self, sample: Sample, score: Score) -> bool:
        self.predictions.append(score.prediction)
        self.references.append(list(sample.references))
        return True

    def statistic(self, weights: Array) -> Array:
        return np.array([self._one(row.astype(int)) for row in weights])

    def _one(self, times: Any) -> float:
        places = np.repeat(np.arange(len(times)), times)
        predictions = [self.predictions[place] for place in places]
        references = [list(self.references[place]) for place in places]
        scorer = self.scorer
        value, why = scorer.checked(
            lambda: scorer.function(predictions, references, **scorer.options)
        )
        if value is None and self.why is None:
            self.why = why
        return math.nan if value is None else value * scorer.scale

    def undefined(self) -> str | None:
        return self.why if self.predictions else None

    def bounds(self) -> ValueRange | None:
        found = self.scorer.how.facts.range
        if found is None:
            return None
        return ValueRange(found[0] * self.scorer.scale, found[1] * self.scorer.scale)


def _prediction(sample: Sample, response: Response) -> str | Image:
    if response.images and response.text is None:
        return drawn(response)
    if response.log_probs is not None and response.text is None:
        best = max(range(len(response.log_probs)), key=response.log_probs.__getitem__)
        if best < len(sample.choices):
            return sample.choices[best]
    return text_of(response)
